{{/* The prefix of all names: the release's name, short enough for a label. */}}
{{- define "darkroom.name" -}}
{{- if contains "darkroom" .Release.Name -}}
{{- .Release.Name | trunc 32 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-darkroom" .Release.Name | trunc 32 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* A model's name as part of an object's name; if it is cut, a hash keeps it unique. */}}
{{- define "darkroom.slug" -}}
{{- $slug := lower . | replace "." "-" | replace "_" "-" -}}
{{- if gt (len $slug) 20 -}}
{{- printf "%s-%s" ($slug | trunc 14 | trimSuffix "-") (. | sha256sum | trunc 5) -}}
{{- else -}}
{{- $slug | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "darkroom.selector" -}}
app.kubernetes.io/name: darkroom
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "darkroom.labels" -}}
{{ include "darkroom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The full name of a container image; argument: (list root name). */}}
{{- define "darkroom.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end -}}
{{- index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- end }}

{{/* Common to every pod: no root, no permissions in the cluster. */}}
{{- define "darkroom.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.serviceAccount.name }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "darkroom.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Addresses of Redis and the bucket, and the settings of both programs. */}}
{{- define "darkroom.environment" -}}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.existingSecret: the secret that holds the URL of Redis" .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
- name: OBJECT_STORE_URL
  value: {{ required "objectStore.url: the bucket for images, such as s3://bucket" .Values.objectStore.url | quote }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "darkroom.storeSecret" -}}
{{- with .Values.objectStore.existingSecret }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}
