{{- /* The pod of the gateway. */ -}}

{{- define "wharf.gateway.pod" -}}
{{- $gateway := .Values.gateway -}}
{{- $shared := $gateway.shared -}}
metadata:
  labels: {{- include "wharf.gateway.labels" . | nindent 4 }}
  {{- if or $gateway.podAnnotations (include "wharf.gateway.secret" .) }}
  annotations:
    {{- if include "wharf.gateway.secret" . }}
    checksum/urls: {{ toJson $shared.urls | sha256sum }}
    {{- end }}
    {{- with $gateway.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "wharf.gateway.name" . }}
  automountServiceAccountToken: {{ not (include "wharf.gateway.documents" .) }}
  enableServiceLinks: false
  # Not ready, then watches end one after the other, then the rest has its time.
  terminationGracePeriodSeconds: {{ add 10 $gateway.drain.delaySeconds $gateway.drain.watchesSeconds $gateway.drain.timeoutSeconds }}
  {{- with $gateway.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $gateway.image.pullSecrets }}
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
    - name: gateway
      image: "{{ $gateway.image.repository }}:{{ default .Chart.AppVersion $gateway.image.tag }}"
      imagePullPolicy: {{ $gateway.image.pullPolicy }}
      args: {{- include "wharf.gateway.args" . | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- with $secret := default (include "wharf.gateway.secret" .) $shared.existingSecret }}
        {{- range $key := list "redis" "nats" }}
        - name: WHARF_GATEWAY_{{ upper $key }}
          valueFrom:
            secretKeyRef:
              name: {{ $secret }}
              key: {{ $key }}
              optional: true
        {{- end }}
        {{- end }}
      ports:
        - name: https
          containerPort: 6443
        - name: health
          containerPort: 6442
      livenessProbe:
        httpGet:
          path: /livez
          port: health
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe: # the documents have been read and every server has been asked once
        httpGet:
          path: /readyz
          port: health
        periodSeconds: 2
        timeoutSeconds: 3
      {{- with $gateway.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if include "wharf.gateway.documents" . }}
        - name: clusters
          mountPath: /etc/wharf/clusters
          readOnly: true
        {{- end }}
        {{- range $index, $name := $gateway.secrets }}
        - name: secret-{{ $index }}
          mountPath: /etc/wharf/secrets/{{ $name }}
          readOnly: true
        {{- end }}
        {{- if $gateway.tls.secretName }}
        - name: tls
          mountPath: /etc/wharf/tls
          readOnly: true
        {{- end }}
        {{- if $shared.tls.secretName }}
        - name: shared
          mountPath: /etc/wharf/shared
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp # where workers meet
      emptyDir: { medium: Memory, sizeLimit: 16Mi }
    {{- if include "wharf.gateway.documents" . }}
    - name: clusters
      configMap:
        name: {{ include "wharf.gateway.name" . }}
    {{- end }}
    {{- range $index, $name := $gateway.secrets }}
    - name: secret-{{ $index }}
      secret:
        secretName: {{ $name }}
        defaultMode: 288 {{- /* 0440 */}}
    {{- end }}
    {{- with $gateway.tls.secretName }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
    {{- with $shared.tls.secretName }}
    - name: shared
      secret:
        secretName: {{ . }}
        defaultMode: 288
    {{- end }}
  {{- with $gateway.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $gateway.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $gateway.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints: # a node or a zone that is lost takes as few gateways along as can be
    {{- range $key, $unsatisfiable := dict "kubernetes.io/hostname" $gateway.spread "topology.kubernetes.io/zone" "ScheduleAnyway" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: {{ $unsatisfiable }}
      labelSelector:
        matchLabels: {{- include "wharf.gateway.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
{{- end -}}

{{- define "wharf.gateway.args" -}}
{{- $gateway := .Values.gateway -}}
- gateway
- --name=$(POD_NAME)
- --listen=https://0.0.0.0:6443
- --health-listen=http://0.0.0.0:6442
{{- if include "wharf.gateway.documents" . }}
- --config-dir=/etc/wharf/clusters
{{- else }}
- --home-kubeconfig=in-cluster
{{- end }}
- --workers={{ int $gateway.workers }}
- --drain-delay={{ int $gateway.drain.delaySeconds }}s
- --drain-watches={{ int $gateway.drain.watchesSeconds }}s
- --drain-timeout={{ int $gateway.drain.timeoutSeconds }}s
- --log-level={{ $gateway.logLevel }}
{{- if $gateway.tls.secretName }}
- --tls-cert-file=/etc/wharf/tls/tls.crt
- --tls-private-key-file=/etc/wharf/tls/tls.key
{{- end }}
{{- with $gateway.trustedProxies }}
- --trusted-proxies={{ join "," . }}
{{- end }}
{{- if $gateway.shared.tls.secretName }}
- --nats-ca-file=/etc/wharf/shared/ca.crt
{{- if $gateway.shared.tls.clientCert }}
- --nats-cert-file=/etc/wharf/shared/tls.crt
- --nats-key-file=/etc/wharf/shared/tls.key
{{- end }}
{{- end }}
{{- with $gateway.otlpEndpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- with $gateway.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Name of the Secret that the chart makes of URLs among the values; empty when there are none. */ -}}
{{- define "wharf.gateway.secret" -}}
{{- $urls := .Values.gateway.shared.urls -}}
{{- if or $urls.redis $urls.nats }}{{ include "wharf.gateway.name" . }}{{ end -}}
{{- end -}}

{{- /* Namespaces in which it may read something, as JSON. */ -}}
{{- define "wharf.gateway.namespaces" -}}
{{- concat (keys .Values.gateway.rbac.secrets) .Values.gateway.rbac.endpointSlices | uniq | sortAlpha | toJson -}}
{{- end -}}
