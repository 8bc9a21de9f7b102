{{- define "late-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, because suffixes are added and names are limited to 63. */}}
{{- define "late-exporter.fullname" -}}
{{- $name := include "late-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "late-exporter.selector" -}}
app.kubernetes.io/name: {{ include "late-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the pod of `helm test`, which no selector of the exporter matches. */}}
{{- define "late-exporter.testSelector" -}}
app.kubernetes.io/name: {{ include "late-exporter.name" . | trunc 58 }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every resource; commonLabels cannot change those that selectors use. */}}
{{- define "late-exporter.labels" -}}
{{- $labels := include "late-exporter.selector" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $_ := set $labels "helm.sh/chart" $chart -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) $labels) -}}
{{- end -}}

{{- define "late-exporter.serviceAccount" -}}
{{- default (ternary (include "late-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "late-exporter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "late-exporter.kind" -}}
{{- ternary "deployment" "statefulset" (not (empty .Values.state.url)) -}}
{{- end -}}

{{- define "late-exporter.usesTls" -}}
{{- and .Values.webConfig.existingSecret .Values.webConfig.tls | empty | ternary "" "true" -}}
{{- end -}}

{{/* Contents of the file of --config.file; empty if it is not needed. */}}
{{- define "late-exporter.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $workspaces := list -}}
{{- range .Values.workspaces -}}
{{- $workspace := dict "name" .name "api_key_file" (printf "/etc/late-exporter/keys/%s" .key) -}}
{{- with .apiBaseUrl -}}{{- $_ := set $workspace "api_base_url" . -}}{{- end -}}
{{- with .profileId -}}{{- $_ := set $workspace "profile_id" . -}}{{- end -}}
{{- with .labels -}}{{- $_ := set $workspace "labels" . -}}{{- end -}}
{{- $workspaces = append $workspaces $workspace -}}
{{- end -}}
{{- with $workspaces -}}{{- $_ := set $config "workspaces" . -}}{{- end -}}
{{- if $config -}}{{- toYaml $config -}}{{- end -}}
{{- end -}}

{{/* A probe. Arguments: the context and the times of the probe. */}}
{{- define "late-exporter.probe" -}}
{{- $context := index . 0 -}}
{{- $usesTls := include "late-exporter.usesTls" $context -}}
{{- if and $usesTls $context.Values.webConfig.clientCertificates -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: /-/healthy
  port: metrics
  {{- if $usesTls }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{ toYaml (index . 1) }}
{{- end -}}

{{/* Reject values that contradict each other, which the schema cannot know. */}}
{{- define "late-exporter.checkValues" -}}
{{- with .Values -}}
{{- if not .apiKey.existingSecret -}}
{{- fail "apiKey.existingSecret has to name a Secret with the API key of Zernio, made for example by: kubectl create secret generic late-api-key --from-file=api-key=FILE" -}}
{{- end -}}
{{- if and .webConfig.certificateSecret (not .webConfig.existingSecret) -}}
{{- fail "webConfig.certificateSecret is of no use without webConfig.existingSecret, the Secret with the file that names the certificate" -}}
{{- end -}}
{{- if and .state.existingSecret (not .state.url) -}}
{{- fail "state.existingSecret is of no use without state.url, the URL of a PostgreSQL database" -}}
{{- end -}}
{{- if and (gt (int .replicas) 1) (not .state.url) -}}
{{- fail "replicas share a state in PostgreSQL: set state.url" -}}
{{- end -}}
{{- $names := list -}}
{{- range .workspaces -}}
{{- if has .name $names -}}
{{- fail (printf "workspaces: two are called %s; give each another name" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- end -}}
