{{- define "late-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, because suffixes are added and names are limited to 63. */}}
{{- define "late-exporter.fullname" -}}
{{- $name := include "late-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "late-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "late-exporter.selector" -}}
app.kubernetes.io/name: {{ include "late-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "late-exporter.ownLabels" -}}
{{ include "late-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Labels of every resource; commonLabels cannot change those that selectors use. */}}
{{- define "late-exporter.labels" -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) (include "late-exporter.ownLabels" . | fromYaml)) -}}
{{- end -}}

{{/* Metadata of a resource. Arguments: the context, and optionally name, suffix, namespace,
labels, annotations, and isSelected if Prometheus selects it by labels. */}}
{{- define "late-exporter.metadata" -}}
{{- $context := index . 0 -}}
{{- $more := ternary (index . (sub (len .) 1)) dict (gt (len .) 1) -}}
metadata:
  name: {{ default (include "late-exporter.fullname" $context) $more.name }}{{ with $more.suffix }}-{{ . }}{{ end }}
  namespace: {{ default (include "late-exporter.namespace" $context) $more.namespace }}
  labels:
    {{- $release := ternary (dict "release" $context.Release.Name) dict (and $context.Values.releaseLabel (eq "true" (toString $more.isSelected))) }}
    {{- toYaml (mergeOverwrite (include "late-exporter.labels" $context | fromYaml) $release (default dict $more.labels)) | nindent 4 }}
  {{- with $more.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "late-exporter.serviceAccount" -}}
{{- default (ternary (include "late-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "late-exporter.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- with .Values.image -}}
{{- /* A repository may begin with its registry, as in charts without image.registry. */ -}}
{{- $isFull := regexMatch "^(localhost|[^/]*[.:][^/]*)/" .repository -}}
{{- $repository := ternary .repository (printf "%s/%s" $registry .repository) (or $isFull (empty $registry)) -}}
{{- if .digest -}}
{{ $repository }}@{{ .digest }}
{{- else -}}
{{ $repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "late-exporter.imagePullSecrets" -}}
{{- with concat (default list .Values.imagePullSecrets) (default list .Values.global.imagePullSecrets) -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ ternary . (dict "name" .) (kindIs "map" .) | dig "name" "" }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The rules know the jobs late and late-*, so defaults have such a name. */}}
{{- define "late-exporter.job" -}}
{{- $name := include "late-exporter.fullname" . -}}
{{- $known := or (eq "late" $name) (hasPrefix "late-" $name) -}}
{{- default (ternary $name (printf "late-%s" $name) $known) .Values.job -}}
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
{{- with .profileId -}}{{- $_ := set $row "profile_id" . -}}{{- end -}}
{{- with .labels -}}{{- $_ := set $row "labels" . -}}{{- end -}}
{{- $rows = append $rows $row -}}
{{- end -}}
{{- $_ := set $config "workspaces" $rows -}}
{{- end -}}
{{- if $config -}}{{- toYaml $config -}}{{- end -}}
{{- end -}}

{{/* Action of a probe that has none of its own. */}}
{{- define "late-exporter.probeAction" -}}
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

{{/* A probe. Arguments: the context and the values of the probe. */}}
{{- define "late-exporter.probe" -}}
{{- $probe := index . 1 -}}
{{- if and $probe.httpGet (eq "http" (toString (dig "httpGet" "port" "" $probe))) -}}
{{- $probe = mergeOverwrite (deepCopy $probe) (dict "httpGet" (dict "port" "metrics")) -}}
{{- end -}}
{{- $own := or $probe.httpGet $probe.tcpSocket $probe.exec $probe.grpc -}}
{{- toYaml (ternary $probe (merge (dict) $probe (include "late-exporter.probeAction" (index . 0) | fromYaml)) (not (empty $own))) -}}
{{- end -}}

{{/* Flags of run, from a list or a map. */}}
{{- define "late-exporter.args" -}}
{{- $args := list "run" -}}
{{- if kindIs "map" .Values.extraArgs -}}
{{- range $name, $value := .Values.extraArgs -}}
{{- $args = append $args (printf "--%s=%s" $name (include "late-exporter.text" $value)) -}}
{{- end -}}
{{- else -}}
{{- $args = concat $args (default list .Values.extraArgs) -}}
{{- end -}}
{{- toYaml $args -}}
{{- end -}}

{{/* Labels of the pod of `helm test`, which no selector of the exporter matches. */}}
{{- define "late-exporter.testLabels" -}}
app.kubernetes.io/name: {{ include "late-exporter.name" . | trunc 58 }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
