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
{{- with $values.runbookUrl -}}
{{- $runbooks := "https://github.com/late-exporter/late-exporter/blob/main/deploy/prometheus/runbooks" -}}
{{- $text = $text | replace $runbooks (trimSuffix "/" . | include "late-exporter.escaped") -}}
{{- end -}}
{{- $objective := default ($context.Files.Get "files/objective.yaml" | fromYaml).objective $values.objective -}}
{{- $text = $text | replace "@OBJECTIVE@" (toString $objective) -}}
{{- $text = $text | replace "@BUDGET@" (subf 1 $objective | toString) -}}
{{- $text = $text | replace "@PERCENT@" (printf "%v %%" (mulf 100 $objective)) -}}
{{- $matchers := trimAll "{}, " $values.selector -}}
{{- $text = $text | replace "@MATCHERS@" (empty $matchers | ternary "" (printf "%s, " $matchers) | include "late-exporter.escaped") -}}
{{- $text = $text | replace "@BRACES@" (empty $matchers | ternary "" (printf "{%s}" $matchers) | include "late-exporter.escaped") -}}
{{- $text | replace "late|late-.*" (include "late-exporter.jobs" $context) -}}
{{- end -}}

{{/* The groups of a rule file, without disabled alerts and with the overrides. Arguments as above. */}}
{{- define "late-exporter.ruleGroups" -}}
{{- $values := (index . 0).Values.prometheusRule -}}
{{- $groups := list -}}
{{- range (include "late-exporter.ruleFile" . | fromJson).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- $rule := . -}}
{{- if $rule.alert -}}
{{- $own := dict "labels" $values.alertLabels -}}
{{- $rule = mergeOverwrite (dict) $rule $own (get $values.overrides $rule.alert | default dict) -}}
{{- end -}}
{{- if not (has (default "" $rule.alert) (default list $values.disabled)) -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (mergeOverwrite (dict) . (dict "rules" $rules)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
