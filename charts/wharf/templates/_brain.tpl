{{- /* The pod of brain, the same for both modes but for where it keeps its bytes and how it meets the others. */ -}}

{{- define "wharf.brain.pod" -}}
{{- $brain := .Values.brain -}}
{{- $replicated := include "wharf.brain.replicated" . -}}
metadata:
  labels: {{- include "wharf.brain.labels" . | nindent 4 }}
  {{- if or $brain.podAnnotations (and $replicated (not $brain.replicated.existingSecret)) }}
  annotations:
    {{- if and $replicated (not $brain.replicated.existingSecret) }}
    checksum/urls: {{ toJson $brain.replicated.urls | sha256sum }}
    {{- end }}
    {{- with $brain.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "wharf.brain.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ if $replicated }}{{ add 30 $brain.replicated.drainDelaySeconds }}{{ else }}30{{ end }}
  {{- with $brain.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $brain.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: brain
      image: "{{ $brain.image.repository }}:{{ default .Chart.AppVersion $brain.image.tag }}"
      imagePullPolicy: {{ $brain.image.pullPolicy }}
      args: {{- include "wharf.brain.args" . | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- if $replicated }}
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        {{- $secret := default (include "wharf.brain.name" .) $brain.replicated.existingSecret }}
        {{- range $key := list "engine" "redis" "nats" }}
        - name: WHARF_BRAIN_{{ upper $key }}
          valueFrom:
            secretKeyRef:
              name: {{ $secret }}
              key: {{ $key }}
              {{- if eq $key "nats" }}
              optional: true
              {{- end }}
        {{- end }}
        {{- end }}
      ports:
        - name: client
          containerPort: 2379
        {{- if $replicated }}
        - name: control
          containerPort: 2380
        {{- end }}
        - name: health
          containerPort: 2381
      startupProbe: # a large store is read whole first: ten minutes at most
        httpGet:
          path: /readyz
          port: health
        periodSeconds: 2
        failureThreshold: 300
      livenessProbe:
        httpGet:
          path: /livez
          port: health
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: health
        periodSeconds: 5
        timeoutSeconds: 3
      {{- if and $replicated (gt (int $brain.replicated.drainDelaySeconds) 0) }}
      lifecycle:
        preStop: # goes on serving until no Service sends new clients here; SIGTERM then hands over and drains
          exec:
            command: [sleep, {{ $brain.replicated.drainDelaySeconds | quote }}]
      {{- end }}
      {{- with $brain.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: data
          mountPath: /var/lib/wharf
        {{- range $name, $_ := include "wharf.brain.secrets" . | fromJson }}
        - name: {{ $name }}
          mountPath: /etc/wharf/{{ $name }}
          readOnly: true
        {{- end }}
  {{- with include "wharf.brain.volumes" . }}
  volumes: {{- . | nindent 4 }}
  {{- end }}
  {{- with $brain.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $brain.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $brain.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $replicated }}
  topologySpreadConstraints: # a node or a zone that is lost takes as few brains along as can be
    {{- range $key, $unsatisfiable := dict "kubernetes.io/hostname" $brain.replicated.spread "topology.kubernetes.io/zone" "ScheduleAnyway" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: {{ $unsatisfiable }}
      labelSelector:
        matchLabels: {{- include "wharf.brain.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "wharf.brain.args" -}}
{{- $brain := .Values.brain -}}
{{- $replicated := include "wharf.brain.replicated" . -}}
{{- $scheme := include "wharf.brain.scheme" . -}}
- brain
- --name=$(POD_NAME)
- --data-dir=/var/lib/wharf/brain
- --listen-client-urls={{ $scheme }}://0.0.0.0:2379
{{- if $replicated }}
- --advertise-client-urls={{ $scheme }}://$(POD_IP):2379
- --listen-peer-urls={{ include "wharf.brain.peerScheme" . }}://0.0.0.0:2380
- --initial-advertise-peer-urls={{ include "wharf.brain.peerScheme" . }}://$(POD_IP):2380
- --election-timeout={{ int64 $brain.replicated.electionTimeoutMs }}
{{- if not $brain.replicated.peerTls.enabled }}
- --unsafe-no-peer-tls
{{- end }}
{{- else }}
- --advertise-client-urls={{ $scheme }}://{{ include "wharf.brain.name" . }}.{{ .Release.Namespace }}.svc:2379
{{- with $brain.workers }}
- --workers={{ int . }}
{{- end }}
{{- end }}
- --listen-metrics-urls=http://0.0.0.0:2381
- --quota-backend-bytes={{ int64 $brain.quotaBackendBytes }}
- --auto-compaction-mode={{ $brain.autoCompaction.mode }}
- --auto-compaction-retention={{ $brain.autoCompaction.retention }}
- --log-level={{ $brain.logLevel }}
{{- if $brain.tls.enabled }}
- --cert-file=/etc/wharf/tls/tls.crt
- --key-file=/etc/wharf/tls/tls.key
{{- if $brain.tls.clientCertAuth }}
- --client-cert-auth
- --trusted-ca-file=/etc/wharf/tls/ca.crt
{{- end }}
{{- end }}
{{- if and $replicated $brain.replicated.peerTls.enabled }}
- --peer-cert-file=/etc/wharf/peer/tls.crt
- --peer-key-file=/etc/wharf/peer/tls.key
- --peer-client-cert-auth
- --peer-trusted-ca-file=/etc/wharf/peer/ca.crt
- --peer-server-name={{ include "wharf.brain.name" . }}-nodes.{{ .Release.Namespace }}.svc
{{- end }}
{{- if and $replicated $brain.replicated.backingTls.secretName }}
- --nats-ca-file=/etc/wharf/backing/ca.crt
{{- if $brain.replicated.backingTls.clientCert }}
- --nats-cert-file=/etc/wharf/backing/tls.crt
- --nats-key-file=/etc/wharf/backing/tls.key
{{- end }}
{{- end }}
{{- with $brain.otlpEndpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- with $brain.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Secrets that are mounted, as JSON: name of the volume and folder → name of the Secret. */ -}}
{{- define "wharf.brain.secrets" -}}
{{- $brain := .Values.brain -}}
{{- $mounted := dict -}}
{{- if $brain.tls.enabled }}{{ $_ := set $mounted "tls" $brain.tls.secretName }}{{ end -}}
{{- if include "wharf.brain.replicated" . -}}
  {{- if $brain.replicated.peerTls.enabled }}{{ $_ := set $mounted "peer" $brain.replicated.peerTls.secretName }}{{ end -}}
  {{- with $brain.replicated.backingTls.secretName }}{{ $_ := set $mounted "backing" . }}{{ end -}}
{{- end -}}
{{- toJson $mounted -}}
{{- end -}}

{{- define "wharf.brain.volumes" -}}
{{- $brain := .Values.brain -}}
{{- $volumes := list -}}
{{- range $name, $secret := include "wharf.brain.secrets" . | fromJson -}}
  {{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $secret "defaultMode" 288)) -}}{{- /* 0440 */ -}}
{{- end -}}
{{- if include "wharf.brain.replicated" . -}}
  {{- $volumes = append $volumes (dict "name" "data" "emptyDir" (dict "sizeLimit" $brain.replicated.scratchSize)) -}}
{{- else if not $brain.persistence.enabled -}}
  {{- $volumes = append $volumes (dict "name" "data" "emptyDir" (dict "sizeLimit" $brain.persistence.size)) -}}
{{- end -}}
{{- if $volumes }}{{ toYaml $volumes }}{{ end -}}
{{- end -}}
