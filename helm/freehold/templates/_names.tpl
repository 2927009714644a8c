{{/* Names, labels and addresses. Names of objects stay below 52 characters, so that what Kubernetes
     appends (a pod's ordinal, a revision's hash) fits into a label. */}}

{{- define "freehold.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* A name that must be cut gets a checksum of the whole, so that two long ones differ. */}}
{{- define "freehold.fullname" -}}
{{- $name := include "freehold.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full = .Values.fullnameOverride | default $full -}}
{{- if gt (len $full) 40 -}}
{{- printf "%s-%s" ($full | trunc 31 | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- else -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{- define "freehold.headless" -}}{{ include "freehold.fullname" . }}-headless{{- end -}}
{{- define "freehold.spares" -}}{{ include "freehold.fullname" . }}-spare{{- end -}}

{{/* The DNS domain of the pods. */}}
{{- define "freehold.domain" -}}
{{ include "freehold.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "freehold.selector" -}}
app.kubernetes.io/name: {{ include "freehold.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "freehold.labels" -}}
{{ include "freehold.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: without versions, so that a new chart with the same program restarts nobody. */}}
{{- define "freehold.podLabels" -}}
{{ include "freehold.selector" . }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "freehold.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "freehold.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "freehold.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* HOST:PORT,... of the first nodes. They are the same however many nodes there are from the number
     of seeds on, so that a change of `replicas` restarts nobody. */}}
{{- define "freehold.join" -}}
{{- $hosts := list -}}
{{- range $n := until (min (int .Values.replicas) (int .Values.cluster.seeds) | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s:%d" (include "freehold.fullname" $) $n (include "freehold.domain" $) (int $.Values.ports.peer)) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{/* What a certificate of the nodes is good for, as a list in JSON: each pod by the name under which it
     is known to its peers, the client service by all its names, and the node itself. */}}
{{- define "freehold.hosts" -}}
{{- $full := include "freehold.fullname" . -}}
{{- $hosts := list -}}
{{- range $n := until (max (int .Values.replicas) (int .Values.tls.cluster.selfSigned.nodes) | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s" $full $n (include "freehold.domain" $)) -}}
{{- end -}}
{{- range $n := until (max (int .Values.spares.replicas) (int .Values.tls.cluster.selfSigned.spares) | int) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s" (include "freehold.spares" $) $n (include "freehold.domain" $)) -}}
{{- end -}}
{{- $hosts = concat $hosts (include "freehold.clientHosts" . | fromJsonArray) (list "localhost" "127.0.0.1" "::1") .Values.tls.cluster.hosts -}}
{{- if gt (len $hosts) 100 -}}
{{- fail (printf "a certificate is good for 100 names at most, and these values give %d: lower tls.cluster.selfSigned.nodes, or take certificates from elsewhere" (len $hosts)) -}}
{{- end -}}
{{- uniq $hosts | toJson -}}
{{- end -}}

{{/* The names of the client service, as a list in JSON. */}}
{{- define "freehold.clientHosts" -}}
{{- $full := include "freehold.fullname" . -}}
{{- $in := printf "%s.%s" $full .Release.Namespace -}}
{{- list $full $in (printf "%s.svc" $in) (printf "%s.svc.%s" $in .Values.clusterDomain) | toJson -}}
{{- end -}}

{{- define "freehold.passwordSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-superuser" (include "freehold.fullname" .)) }}
{{- end -}}
{{- define "freehold.passwordKey" -}}
{{- if .Values.auth.existingSecret -}}{{ .Values.auth.existingSecretKey }}{{- else -}}password{{- end -}}
{{- end -}}

{{- define "freehold.authoritySecret" -}}{{ include "freehold.fullname" . }}-ca{{- end -}}
{{- define "freehold.clusterSecret" -}}
{{- if eq .Values.tls.cluster.source "secret" -}}
{{ required "tls.cluster.source is secret: name it in tls.cluster.secret" .Values.tls.cluster.secret }}
{{- else -}}
{{ include "freehold.fullname" . }}-node-tls
{{- end -}}
{{- end -}}
{{/* Empty without TLS for clients. */}}
{{- define "freehold.clientSecret" -}}
{{- if eq .Values.tls.client.source "cluster" -}}
{{ include "freehold.clusterSecret" . }}
{{- else if eq .Values.tls.client.source "secret" -}}
{{ required "tls.client.source is secret: name it in tls.client.secret" .Values.tls.client.secret }}
{{- else if eq .Values.tls.client.source "certManager" -}}
{{ include "freehold.fullname" . }}-client-tls
{{- end -}}
{{- end -}}
