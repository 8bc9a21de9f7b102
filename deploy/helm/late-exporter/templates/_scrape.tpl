{{/* Whether the chart makes the configuration of the scrape; empty if not. */}}
{{- define "late-exporter.isScraped" -}}
{{- with .Values -}}
{{- or .serviceMonitor.enabled .podMonitor.enabled .vmServiceScrape.enabled .podMonitoring.enabled | ternary "true" "" -}}
{{- end -}}
{{- end -}}

{{/* Matcher of the job that a monitor sets; empty if there is none, or if it takes the job from a label. */}}
{{- define "late-exporter.ownJob" -}}
{{- $jobLabels := list .Values.serviceMonitor.jobLabel .Values.podMonitor.jobLabel | join "" -}}
{{- if and (include "late-exporter.isScraped" .) (not $jobLabels) -}}
{{- include "late-exporter.job" . | printf "job=%q" -}}
{{- end -}}
{{- end -}}

{{/* The scrape of a monitor. Arguments: the context, the values of the monitor, and the names of its relabelings. */}}
{{- define "late-exporter.scrape" -}}
{{- $context := index . 0 -}}
{{- $monitor := index . 1 -}}
{{- $names := index . 2 -}}
port: metrics
path: {{ dig "web" "telemetry_path" "/metrics" $context.Values.config }}
interval: {{ $monitor.interval }}
{{- with $monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if $monitor.honorLabels }}
honorLabels: true
{{- end }}
{{- if and $context.Values.webConfig.existingSecret $context.Values.webConfig.tls }}
scheme: https
{{- with $monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $job := list (dict "targetLabel" "job" "replacement" (include "late-exporter.job" $context)) }}
{{- with concat (empty $monitor.jobLabel | ternary $job list) (default list $monitor.relabelings) }}
{{ index $names 0 }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ index $names 1 }}:
  # The series of a workspace continue if another pod shows them.
  - sourceLabels: [workspace]
    regex: .+
    targetLabel: instance
    replacement: late-exporter
  - sourceLabels: [workspace]
    regex: .+
    targetLabel: pod
    replacement: ""
  {{- with $monitor.metricRelabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The selector of a monitor, with the namespace if the monitor is in another one. Arguments as above, without names. */}}
{{- define "late-exporter.target" -}}
{{- $context := index . 0 -}}
{{- $namespace := include "late-exporter.namespace" $context -}}
{{- with (index . 1).namespace }}
{{- if ne . $namespace -}}
namespaceSelector:
  matchNames: [{{ $namespace }}]
{{ end }}
{{- end -}}
selector:
  matchLabels:
    {{- include "late-exporter.selector" $context | nindent 4 }}
{{- end -}}
