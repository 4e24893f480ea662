{{- define "muster.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "muster.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "muster.labels" -}}
{{ include "muster.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "muster.secret" -}}
{{- if .Values.cookie.existingSecret -}}
{{ .Values.cookie.existingSecret }}
{{- else if .Values.cookie.value -}}
{{ include "muster.name" . }}
{{- else -}}
{{ fail "set cookie.existingSecret: kubectl create secret generic muster --from-literal=cookie=\"$(openssl rand -hex 32)\"" }}
{{- end -}}
{{- end }}

{{/* The name of a node, which its fellows find by way of its EndpointSlice. */}}
{{- define "muster.node" -}}
{{- if eq .Values.addressType "ip" -}}
{{ .Values.nodeName }}@$(POD_IP)
{{- else -}}
{{ .Values.nodeName }}@$(POD).{{ include "muster.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}
{{- end }}

{{- define "muster.env" -}}
- name: POD
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: EMQX_NODE_NAME
  value: {{ include "muster.node" . | quote }}
{{- end }}

{{/* The agent's container: the only one, or the sidecar of the broker. */}}
{{- define "muster.container" -}}
name: muster
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if .Values.broker.enabled }}
restartPolicy: Always
{{- end }}
args: ["run", "-c", "/etc/muster/muster.conf"]
env:
  {{- include "muster.env" . | nindent 2 }}
ports:
  - name: mesh
    containerPort: {{ .Values.ports.mesh }}
  - name: health
    containerPort: {{ .Values.ports.health }}
livenessProbe:
  httpGet:
    path: /livez
    port: health
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 3
  timeoutSeconds: 3
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/muster
    readOnly: true
  - name: cookie
    mountPath: /run/secrets/muster
    readOnly: true
  - name: data
    mountPath: /var/lib/muster
{{- end }}

{{/* What the broker's probe asks, on the pod's own loopback. */}}
{{- define "muster.probe" -}}
{{- if eq .Values.broker.kind "emqx" -}}
http://127.0.0.1:18083/status
{{- else if eq .Values.broker.kind "http" -}}
http://127.0.0.1:{{ .Values.broker.port }}/
{{- else -}}
127.0.0.1:{{ .Values.broker.port }}
{{- end -}}
{{- end }}

{{/* Whether the state outlasts a pod: a name of a pod's address never comes back. */}}
{{- define "muster.keeps" -}}
{{- if and .Values.persistence.enabled (eq .Values.addressType "hostname") -}}yes{{- end -}}
{{- end }}
