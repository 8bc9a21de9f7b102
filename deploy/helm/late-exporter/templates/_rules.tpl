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

{{/* The text of a rule file with the configured URLs and job. Arguments: the context and the path. */}}
{{- define "late-exporter.ruleText" -}}
{{- $context := index . 0 -}}
{{- $values := $context.Values.prometheusRule -}}
{{- $text := $context.Files.Get (index . 1) -}}
{{- $text = $text | replace "http://localhost:3000/" (printf "%s/" (trimSuffix "/" $values.grafanaUrl)) -}}
{{- with $values.runbookUrl -}}
{{- $text = $text | replace "https://github.com/late-exporter/late-exporter/blob/main/deploy/prometheus/runbooks" (trimSuffix "/" .) -}}
{{- end -}}
{{- $text | replace "late|late-.*" (include "late-exporter.jobs" $context) -}}
{{- end -}}

{{/* The groups of a rule file, without disabled alerts and with the overrides. Arguments as above. */}}
{{- define "late-exporter.ruleGroups" -}}
{{- $values := (index . 0).Values.prometheusRule -}}
{{- $groups := list -}}
{{- range (include "late-exporter.ruleText" . | fromYaml).groups -}}
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
