{{- define "wharf.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "wharf.brain.name" -}}
{{- include "wharf.name" . }}-brain
{{- end -}}

{{- define "wharf.brain.selector" -}}
app.kubernetes.io/name: wharf
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: brain
{{- end -}}

{{- define "wharf.brain.labels" -}}
{{ include "wharf.brain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "wharf.gateway.name" -}}
{{- include "wharf.name" . }}-gateway
{{- end -}}

{{- /* Of what is not in the release's namespace, where another release of the same name may be. */ -}}
{{- define "wharf.gateway.wideName" -}}
{{- include "wharf.gateway.name" . }}-{{ .Release.Namespace }}
{{- end -}}

{{- define "wharf.gateway.selector" -}}
app.kubernetes.io/name: wharf
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "wharf.gateway.labels" -}}
{{ include "wharf.gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Empty when the clusters are objects of the API. */ -}}
{{- define "wharf.gateway.documents" -}}
{{- if .Values.gateway.clusters }}true{{ end -}}
{{- end -}}

{{- define "wharf.brain.scheme" -}}
{{- if .Values.brain.tls.enabled }}https{{ else }}http{{ end -}}
{{- end -}}

{{- define "wharf.brain.peerScheme" -}}
{{- if .Values.brain.replicated.peerTls.enabled }}https{{ else }}http{{ end -}}
{{- end -}}

{{- /* Empty in the embedded mode. */ -}}
{{- define "wharf.brain.replicated" -}}
{{- if eq .Values.brain.mode "replicated" }}true{{ end -}}
{{- end -}}

{{- define "wharf.brain.replicas" -}}
{{- if kindIs "invalid" .Values.brain.replicas -}}
{{- if include "wharf.brain.replicated" . }}3{{ else }}1{{ end -}}
{{- else }}{{ int .Values.brain.replicas }}{{ end -}}
{{- end -}}

{{- /* Bytes of "512Mi", "8Gi" or "1Ti"; values.schema.json admits nothing else. */ -}}
{{- define "wharf.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[A-Za-z]+$" . -}}
{{- mul $number (index (dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) $unit) -}}
{{- end -}}
