{{/*
Accept a map of variables for a list, and null for an empty map, by changing .Values in place. Every template begins with it;
after the first time there is nothing left to do.
*/}}
{{- define "late-exporter.normalize" -}}
{{- $values := .Values -}}
{{- /* Null, if everything in a section of a values file is commented out. The schema requires those that have defaults. */ -}}
{{- range list "commonLabels" "config" "podLabels" -}}
{{- if not (get $values .) -}}{{- $_ := set $values . dict -}}{{- end -}}
{{- end -}}
{{- range $section, $names := dict "grafanaDashboards" (list "labels") -}}
{{- range $names -}}
{{- if not (get (get $values $section) .) -}}{{- $_ := set (get $values $section) . dict -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if kindIs "map" $values.extraEnv -}}
{{- $_ := set $values "extraEnv" (include "late-exporter.variables" $values.extraEnv | fromYamlArray) -}}
{{- end -}}
{{- end -}}

{{/* A map of environment variables as a list, as in a container. */}}
{{- define "late-exporter.variables" -}}
{{- $rows := list -}}
{{- if kindIs "map" . -}}
{{- range $name, $value := . -}}
{{- $row := ternary $value (dict "value" (include "late-exporter.text" $value)) (kindIs "map" $value) -}}
{{- $rows = append $rows (merge (dict "name" $name) $row) -}}
{{- end -}}
{{- end -}}
{{- toYaml $rows -}}
{{- end -}}

{{/* A value as text. Helm reads numbers as floating-point ones, which would otherwise become 2e+06. */}}
{{- define "late-exporter.text" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}
