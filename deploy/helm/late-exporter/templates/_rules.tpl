{{/* The names of all alerts, as a list in YAML. */}}
{{- define "late-exporter.alertNames" -}}
{{- $names := list -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yml" -}}
{{- range ($.Files.Get $path | fromYaml).groups -}}
{{- range .rules -}}{{- with .alert -}}{{- $names = append $names . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (uniq $names) -}}
{{- end -}}

{{- define "late-exporter.checkAlertNames" -}}
{{- $names := include "late-exporter.alertNames" . | fromYamlArray -}}
{{- range concat (default list .Values.prometheusRule.disabled) (keys .Values.prometheusRule.overrides) -}}
{{- if not (has . $names) -}}
{{- fail (printf "prometheusRule: there is no alert %s; see docs/alerts.md for their names" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A text as it is within the quotes of a string in JSON. */}}
{{- define "late-exporter.escaped" -}}
{{- toJson . | trimPrefix "\"" | trimSuffix "\"" -}}
{{- end -}}

{{/*
A rule file in JSON, with its formulas computed. In JSON, because a text in it can be replaced by any other. Arguments: the context and the path.
*/}}
{{- define "late-exporter.ruleFile" -}}
{{- $context := index . 0 -}}
{{- $values := $context.Values.prometheusRule -}}
{{- $text := $context.Files.Get (index . 1) | fromYaml | toJson -}}
{{- $defaults := $context.Files.Get "files/defaults.yaml" | fromYaml -}}
{{- $matchers := trimAll "{}, " $values.selector | default (include "late-exporter.ownJob" $context) -}}
{{- $job := printf "job=~\"%s\"" (include "late-exporter.jobs" $context) -}}
{{- $exporters := without (list $matchers (regexMatch "(^|,) *job *[=!]" $matchers | ternary "" $job)) "" | join ", " -}}
{{- $cluster := empty $values.clusterLabel | ternary "" (printf "%s, " $values.clusterLabel) -}}
{{- $numbers := dict
    "objective" (default $defaults.objective $values.objective)
    "thresholds" (mergeOverwrite $defaults.thresholds $values.thresholds)
    "matchers" (empty $matchers | ternary "" (printf "%s, " $matchers) | include "late-exporter.escaped")
    "braces" (empty $matchers | ternary "" (printf "{%s}" $matchers) | include "late-exporter.escaped")
    "exporters" (include "late-exporter.escaped" $exporters)
    "cluster" $cluster
    "clusterName" (default "cluster" $values.clusterLabel)
    "Template" $context.Template
-}}
{{- range (regexFindAll "⟦[^⟧]*⟧" $text -1 | uniq) -}}
{{- $formula := . | trimPrefix "⟦" | trimSuffix "⟧" -}}
{{- $text = $text | replace . (tpl (printf "{{ %s }}" $formula) $numbers) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* An alert with the configured URLs, labels and changes. Arguments: the values of the rules and the alert. */}}
{{- define "late-exporter.alert" -}}
{{- $values := index . 0 -}}
{{- $alert := index . 1 -}}
{{- $annotations := dict -}}
{{- with $values.runbookUrl -}}
{{- $url := ternary . (printf "%s/%%s.md" (trimSuffix "/" .)) (contains "%s" .) | replace "%s" $alert.alert -}}
{{- $_ := set $annotations "runbook_url" $url -}}
{{- end -}}
{{- with $values.grafanaUrl -}}
{{- $_ := set $annotations "dashboard_url" (print (trimSuffix "/" .) $alert.annotations.dashboard_path) -}}
{{- $_ := set $annotations "dashboard_path" nil -}}
{{- end -}}
{{- if $values.objectives -}}
{{- $text := regexReplaceAll "[0-9.]+ % success" $alert.annotations.description "its objective" -}}
{{- $_ := set $annotations "description" $text -}}
{{- end -}}
{{- $own := dict "labels" $values.alertLabels "annotations" $annotations -}}
{{- $changes := get $values.overrides $alert.alert | default dict -}}
{{- $result := dict -}}
{{- range $name, $value := mergeOverwrite (dict) $alert $own $changes -}}
{{- if kindIs "map" $value -}}
{{- $fields := dict -}}
{{- range $key, $field := $value -}}
{{- if not (kindIs "invalid" $field) -}}{{- $_ := set $fields $key $field -}}{{- end -}}
{{- end -}}
{{- $value = $fields -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $result $name $value -}}{{- end -}}
{{- end -}}
{{- toYaml $result -}}
{{- end -}}

{{/* The failed attempts that the objectives allow. Arguments: the values of the rules, level, window and defaults. */}}
{{- define "late-exporter.allowed" -}}
{{- $values := index . 0 -}}
{{- $final := printf "platform:late_publishing_final_logs:increase%s" (index . 2) -}}
{{- $parts := list -}}
{{- range $one := $values.objectives -}}
{{- $matchers := list -}}
{{- range $name := list "platform" "workspace" -}}
{{- with get $one $name -}}{{- $matchers = append $matchers (printf "%s=%s" $name (toJson .)) -}}{{- end -}}
{{- end -}}
{{- $parts = append $parts (printf "  %s{%s} * %v" $final (join ", " $matchers) (subf 1 $one.objective)) -}}
{{- end -}}
{{- $budget := subf 1 (default (index . 3).objective $values.objective) -}}
{{- $sum := ternary "sum without (platform) " "" (eq "workspace" (index . 1)) -}}
{{- append $parts (printf "  %s * %v" $final $budget) | join "\nor\n" | printf "%s(\n%s\n)" $sum -}}
{{- end -}}

{{/*
The recording rules that a rule becomes: more than one if there are several objectives. The failed attempts are then divided
by those that the objectives allow; of several values for a platform of a workspace, the operator `or` takes the first.
Arguments: the values of the rules, the rule, and the defaults.
*/}}
{{- define "late-exporter.recordings" -}}
{{- $values := index . 0 -}}
{{- $rule := index . 1 -}}
{{- $defaults := index . 2 -}}
{{- $rules := list $rule -}}
{{- if $values.objectives -}}
{{- $level := splitList ":" $rule.record | first -}}
{{- if eq "slo:late_publishing_success:objective" $rule.record -}}
{{- range $values.objectives -}}
{{- $labels := pick . "workspace" "platform" -}}
{{- $rules = append $rules (dict "record" $rule.record "expr" (printf "vector(%v)" .objective) "labels" $labels) -}}
{{- end -}}
{{- else if contains ":late_publishing_error_budget:burnrate" $rule.record -}}
{{- $window := splitList "burnrate" $rule.record | last -}}
{{- $allowed := include "late-exporter.allowed" (list $values $level $window $defaults) -}}
{{- $expr := printf "%s:late_publishing_failed_logs:increase%s\n/\n(%s > 0)\n" $level $window $allowed -}}
{{- $rules = list (dict "record" $rule.record "expr" $expr) -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{/* The groups of a rule file, without disabled alerts and with the overrides. Arguments as above. */}}
{{- define "late-exporter.ruleGroups" -}}
{{- $defaults := (index . 0).Files.Get "files/defaults.yaml" | fromYaml -}}
{{- $values := (index . 0).Values.prometheusRule -}}
{{- $groups := list -}}
{{- range (include "late-exporter.ruleFile" . | fromJson).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $rule := . -}}
{{- if $rule.record -}}
{{- $rules = concat $rules (include "late-exporter.recordings" (list $values $rule $defaults) | fromYamlArray) -}}
{{- else if not (has $rule.alert (default list $values.disabled)) -}}
{{- $rules = append $rules (include "late-exporter.alert" (list $values $rule) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (mergeOverwrite (dict) . (dict "rules" $rules)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
