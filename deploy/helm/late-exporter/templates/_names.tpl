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

{{- define "late-exporter.labels" -}}
{{ include "late-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "late-exporter.serviceAccount" -}}
{{- default (ternary (include "late-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "late-exporter.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The rules know the jobs late and late-*, so defaults have such a name. */}}
{{- define "late-exporter.job" -}}
{{- $name := include "late-exporter.fullname" . -}}
{{- $known := or (eq "late" $name) (hasPrefix "late-" $name) -}}
{{- default (ternary $name (printf "late-%s" $name) $known) .Values.monitor.job -}}
{{- end -}}

{{/* Regular expression of the scrape jobs in the rules. */}}
{{- define "late-exporter.jobs" -}}
{{- $job := include "late-exporter.job" . -}}
{{- ternary "late|late-.*" $job (or (eq "late" $job) (hasPrefix "late-" $job)) -}}
{{- end -}}

{{- define "late-exporter.secret" -}}
{{- $hint := "apiKey.existingSecret has to name a Secret with the API key of Zernio, made for example by: kubectl create secret generic late-api-key --from-file=api-key=FILE" -}}
{{- required $hint .Values.apiKey.existingSecret -}}
{{- end -}}

{{/* Contents of the file of --config.file; empty if it is not needed. */}}
{{- define "late-exporter.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.workspaces -}}
{{- $rows := list -}}
{{- range .Values.workspaces -}}
{{- $row := dict "name" .name "api_key_file" (printf "/etc/late-exporter/keys/%s" .key) -}}
{{- with .apiBaseUrl -}}{{- $_ := set $row "api_base_url" . -}}{{- end -}}
{{- $rows = append $rows $row -}}
{{- end -}}
{{- $_ := set $config "workspaces" $rows -}}
{{- end -}}
{{- if $config -}}{{- toYaml $config -}}{{- end -}}
{{- end -}}

{{/* Action of the liveness, readiness and startup probes. */}}
{{- define "late-exporter.probe" -}}
{{- $secured := and .Values.webConfig.existingSecret .Values.webConfig.tls -}}
{{- if and $secured .Values.webConfig.clientCertificates -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: /-/healthy
  port: metrics
{{- if $secured }}
  scheme: HTTPS
{{- end }}
{{- end -}}
{{- end -}}
