{{/* Reject values that contradict each other. */}}
{{- define "late-exporter.checkValues" -}}
{{- with .Values -}}
{{- if and .webConfig.certificateSecret (not .webConfig.existingSecret) -}}
{{- fail "webConfig.certificateSecret is of no use without webConfig.existingSecret, the Secret with the file that names the certificate" -}}
{{- end -}}
{{- if and .state.existingSecret (not .state.url) -}}
{{- fail "state.existingSecret is of no use without state.url, the URL of a PostgreSQL database" -}}
{{- end -}}
{{- if and (gt (int .replicas) 1) (not .state.url) -}}
{{- fail "replicas share a state in PostgreSQL: set state.url" -}}
{{- end -}}
{{- if and .serviceMonitor.enabled .podMonitor.enabled -}}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: all series would come twice; enable one of them" -}}
{{- end -}}
{{- with .podDisruptionBudget -}}
{{- if and (hasKey . "minAvailable") (hasKey . "maxUnavailable") -}}
{{- fail "podDisruptionBudget: Kubernetes accepts only one of minAvailable and maxUnavailable" -}}
{{- end -}}
{{- end -}}
{{- if (default dict .ingress).enabled -}}
{{- fail "ingress.enabled: metrics are not public; extraManifests takes any Ingress" -}}
{{- end -}}
{{- if .apiKey.value -}}
{{- fail "apiKey.value: values are stored with the release, so the key belongs in a Secret: set apiKey.existingSecret" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "late-exporter.kind" -}}
{{- ternary "deployment" "statefulset" (not (empty .Values.state.url)) -}}
{{- end -}}

{{/* Ports of the hosts in the URL of the state. */}}
{{- define "late-exporter.databasePorts" -}}
{{- $ports := list -}}
{{- range regexReplaceAll "^postgresql://([^@/]*@)?([^/?]*).*$" .Values.state.url "${2}" | splitList "," -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432" | int) -}}
{{- end -}}
{{- uniq $ports | toYaml -}}
{{- end -}}
