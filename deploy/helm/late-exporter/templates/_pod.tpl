{{/* Template of the pod: metadata and spec. */}}
{{- define "late-exporter.pod" -}}
{{- $config := include "late-exporter.config" . }}
{{- $web := .Values.webConfig }}
{{- $disk := .Values.persistence }}
{{- $database := .Values.state -}}
metadata:
  labels:
    {{- toYaml (mergeOverwrite (deepCopy .Values.podLabels) (include "late-exporter.labels" . | fromYaml)) | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: late-exporter
    {{- with $config }}
    # Restart the pod if the file changes.
    checksum/config: {{ sha256sum . }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "late-exporter.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false # service variables could start with LATE_EXPORTER_
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: late-exporter
      image: {{ include "late-exporter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- if $database.url }}
        - name: LATE_EXPORTER_STATE__URL
          value: {{ $database.url | quote }}
        {{- if $database.existingSecret }}
        - name: LATE_EXPORTER_STATE__PASSWORD_FILE
          value: /etc/late-exporter/state/{{ $database.key }}
        {{- end }}
        - name: LATE_EXPORTER_STATE__REPLICAS
          value: "true"
        {{- else }}
        - name: STATE_DIRECTORY
          value: /var/lib/late-exporter
        {{- end }}
        {{- if not .Values.workspaces }}
        - name: ZERNIO_API_KEY_FILE
          value: /etc/late-exporter/keys/{{ .Values.apiKey.key }}
        {{- end }}
        {{- if $config }}
        - name: LATE_EXPORTER_CONFIG__FILE
          value: /etc/late-exporter/config/late.yml
        {{- end }}
        {{- if $web.existingSecret }}
        - name: LATE_EXPORTER_WEB__CONFIG_FILE
          value: /etc/late-exporter/web/{{ $web.key }}
        {{- if not (dig "web" "unauthenticated_paths" "" .Values.config) }}
        - name: LATE_EXPORTER_WEB__UNAUTHENTICATED_PATHS
          value: /-/healthy
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: 10077
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      startupProbe:
        {{- include "late-exporter.probe" (list . .Values.startupProbe) | nindent 8 }}
      livenessProbe:
        {{- include "late-exporter.probe" (list . .Values.livenessProbe) | nindent 8 }}
      # Not /-/ready: the Service must route scrapes also during the first sync and while the API key is rejected.
      readinessProbe:
        {{- include "late-exporter.probe" (list . .Values.readinessProbe) | nindent 8 }}
      volumeMounts:
        {{- if $database.existingSecret }}
        - name: database
          mountPath: /etc/late-exporter/state
          readOnly: true
        {{- end }}
        {{- if not $database.url }}
        - name: state
          mountPath: /var/lib/late-exporter
        {{- end }}
        # Mounted as a folder, not with subPath, so that a changed key is picked up without a restart.
        - name: keys
          mountPath: /etc/late-exporter/keys
          readOnly: true
        {{- if $config }}
        - name: config
          mountPath: /etc/late-exporter/config
          readOnly: true
        {{- end }}
        {{- if $web.existingSecret }}
        - name: web
          mountPath: /etc/late-exporter/web
          readOnly: true
        {{- end }}
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: keys
      secret:
        secretName: {{ .Values.apiKey.existingSecret }}
        defaultMode: 0440
    {{- if $config }}
    - name: config
      configMap:
        name: {{ include "late-exporter.fullname" . }}
    {{- end }}
    {{- if $web.existingSecret }}
    - name: web
      projected:
        defaultMode: 0440
        sources:
          - secret:
              name: {{ $web.existingSecret }}
          {{- with $web.certificateSecret }}
          - secret:
              name: {{ . }}
          {{- end }}
    {{- end }}
    # Temporary files, except for those of SQLite, which are beside the state.
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if $database.existingSecret }}
    - name: database
      secret:
        secretName: {{ $database.existingSecret }}
        defaultMode: 0440
    {{- end }}
    {{- if $database.url }}
    {{- else if not $disk.enabled }}
    - name: state
      emptyDir:
        sizeLimit: {{ $disk.size }}
    {{- else if $disk.existingClaim }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ $disk.existingClaim }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "late-exporter.selector" . | nindent 10 }}
  {{- end }}
{{- end -}}
