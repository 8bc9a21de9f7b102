{{/*
Accept the names that other charts give to a value, and a map of variables for a list, by changing .Values in place.
Every template begins with it; after the first time there is nothing left to do. files/synonyms.yaml has the names.
*/}}
{{- define "late-exporter.normalize" -}}
{{- $values := .Values -}}
{{- range $pair := (.Files.Get "files/synonyms.yaml" | fromYamlArray) -}}
{{- $old := splitList "." $pair.name -}}
{{- $new := splitList "." $pair.value -}}
{{- $parent := $values -}}
{{- range initial $old -}}{{- $parent = get $parent . | default dict -}}{{- end -}}
{{- if hasKey $parent (last $old) -}}
{{- $value := get $parent (last $old) -}}
{{- $_ := unset $parent (last $old) -}}
{{- $target := $values -}}
{{- range initial $new -}}
{{- if not (hasKey $target .) -}}{{- $_ := set $target . dict -}}{{- end -}}
{{- $target = get $target . -}}
{{- end -}}
{{- $current := get $target (last $new) -}}
{{- if kindIs "slice" $current -}}
{{- if not (kindIs "slice" $value) -}}
{{- $rows := eq "metricRelabelings" (last $new) | ternary "late-exporter.addedLabels" "late-exporter.variables" -}}
{{- $value = kindIs "map" $value | ternary (include $rows $value | fromYamlArray) (without (list $value) "" nil) -}}
{{- end -}}
{{- $value = ternary (concat $current $value) $value (ne "accessModes" (last $new)) -}}
{{- else if kindIs "map" $current -}}
{{- $value = mergeOverwrite (deepCopy $current) (default dict $value) -}}
{{- end -}}
{{- $_ := set $target (last $new) $value -}}
{{- end -}}
{{- end -}}
{{- /* Null, if everything in a section of a values file is commented out. The schema requires those that have defaults. */ -}}
{{- range list "commonLabels" "config" "podLabels" -}}
{{- if not (get $values .) -}}{{- $_ := set $values . dict -}}{{- end -}}
{{- end -}}
{{- range $section, $names := dict "grafanaDashboards" (list "labels") "prometheusRule" (list "overrides" "thresholds") -}}
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

{{/* A map of labels as relabelings that add them. */}}
{{- define "late-exporter.addedLabels" -}}
{{- $rows := list -}}
{{- if kindIs "map" . -}}
{{- range $name, $value := . -}}
{{- $rows = append $rows (dict "targetLabel" $name "replacement" (include "late-exporter.text" $value)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $rows -}}
{{- end -}}

{{/* A value as text. Helm reads numbers as floating-point ones, which would otherwise become 2e+06. */}}
{{- define "late-exporter.text" -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}
