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
A rule file in JSON with the configured objective, selector, URLs and job. In JSON, because a text in it can be replaced by
any other. Arguments: the context and the path.
*/}}
{{- define "late-exporter.ruleFile" -}}
{{- $context := index . 0 -}}
{{- $values := $context.Values.prometheusRule -}}
{{- $text := $context.Files.Get (index . 1) | fromYaml | toJson -}}
{{- $grafana := printf "%s/" (trimSuffix "/" $values.grafanaUrl) -}}
{{- $text = $text | replace "http://localhost:3000/" (include "late-exporter.escaped" $grafana) -}}
{{- $label := ternary "(" (printf "(%s, " $values.clusterLabel) (empty $values.clusterLabel) -}}
{{- $text = $text | replace "(cluster, " $label -}}
{{- $objective := default ($context.Files.Get "files/objective.yaml" | fromYaml).objective $values.objective -}}
{{- $text = $text | replace "@OBJECTIVE@" (toString $objective) -}}
{{- $text = $text | replace "@BUDGET@" (subf 1 $objective | toString) -}}
{{- $text = $text | replace "@PERCENT@" (printf "%v %%" (mulf 100 $objective)) -}}
{{- $matchers := trimAll "{}, " $values.selector -}}
{{- $text = $text | replace "@MATCHERS@" (empty $matchers | ternary "" (printf "%s, " $matchers) | include "late-exporter.escaped") -}}
{{- $text = $text | replace "@BRACES@" (empty $matchers | ternary "" (printf "{%s}" $matchers) | include "late-exporter.escaped") -}}
{{- $text | replace "late|late-.*" (include "late-exporter.jobs" $context) -}}
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
{{- if empty $values.grafanaUrl -}}{{- $_ := set $annotations "dashboard_url" nil -}}{{- end -}}
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

{{/*
The recording rules that a rule becomes: more than one if there are several objectives. The failed attempts are then divided
by those that the objectives allow; of several values for a platform of a workspace, the operator `or` takes the first.
Arguments: the values of the rules and the rule.
*/}}
{{- define "late-exporter.recordings" -}}
{{- $values := index . 0 -}}
{{- $rule := index . 1 -}}
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
{{- $final := printf "platform:late_publishing_final_logs:increase%s" $window -}}
{{- $budget := regexFind "[0-9.]+$" (trim $rule.expr) -}}
{{- $parts := list -}}
{{- range $values.objectives -}}
{{- $matchers := list -}}
{{- range $name, $value := pick . "workspace" "platform" -}}
{{- $matchers = append $matchers (printf "%s=%s" $name (toJson $value)) -}}
{{- end -}}
{{- $parts = append $parts (printf "  %s{%s} * %v" $final (join ", " $matchers) (subf 1 .objective)) -}}
{{- end -}}
{{- $allowed := append $parts (printf "  %s * %s" $final $budget) | join "\nor\n" | printf "(\n%s\n)" -}}
{{- if eq "workspace" $level -}}{{- $allowed = printf "sum without (platform) %s" $allowed -}}{{- end -}}
{{- $expr := printf "%s:late_publishing_failed_logs:increase%s\n/\n(%s > 0)\n" $level $window $allowed -}}
{{- $rules = list (dict "record" $rule.record "expr" $expr) -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{/* The groups of a rule file, without disabled alerts and with the overrides. Arguments as above. */}}
{{- define "late-exporter.ruleGroups" -}}
{{- $values := (index . 0).Values.prometheusRule -}}
{{- $groups := list -}}
{{- range (include "late-exporter.ruleFile" . | fromJson).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $rule := . -}}
{{- if $rule.record -}}
{{- $rules = concat $rules (include "late-exporter.recordings" (list $values $rule) | fromYamlArray) -}}
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
