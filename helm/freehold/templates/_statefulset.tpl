{{/* The nodes of one StatefulSet. `root`: the chart's scope; `set`: nodes or spares; `name`, `replicas`,
     `resources`: of this one. Members and spares differ in nothing else: a spare is a node that the
     cluster has given nothing to hold yet. */}}
{{- define "freehold.statefulset" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .name }}
  labels:
    {{- include "freehold.labels" .root | nindent 4 }}
    app.kubernetes.io/component: node
    freehold-set: {{ .set }}
spec:
  replicas: {{ .replicas }}
  serviceName: {{ include "freehold.headless" .root }}
  # Empty nodes wait for each other: none would ever be ready alone.
  podManagementPolicy: Parallel
  updateStrategy:
    type: {{ $values.updateStrategy.type }}
    {{- if eq $values.updateStrategy.type "RollingUpdate" }}
    rollingUpdate:
      partition: {{ $values.updateStrategy.partition }}
    {{- end }}
  minReadySeconds: {{ $values.minReadySeconds }}
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: {{ $values.persistence.whenDeleted }}
    whenScaled: {{ $values.persistence.whenScaled }}
  selector:
    matchLabels:
      {{- include "freehold.selector" .root | nindent 6 }}
      app.kubernetes.io/component: node
      freehold-set: {{ .set }}
  template:
    metadata:
      labels:
        {{- include "freehold.podLabels" .root | nindent 8 }}
        app.kubernetes.io/component: node
        freehold-set: {{ .set }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: freehold
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "freehold.pod" .root | nindent 6 }}
      serviceAccountName: {{ include "freehold.serviceAccount" .root }}
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      {{- include "freehold.spread" . | nindent 6 }}
      containers:
        - name: freehold
          image: {{ include "freehold.image" .root | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args:
            {{- include "freehold.start" .root | nindent 12 }}
          env:
            {{- include "freehold.env" .root | nindent 12 }}
          ports:
            - name: postgresql
              containerPort: {{ $values.ports.sql }}
            - name: peer
              containerPort: {{ $values.ports.peer }}
            - name: http
              containerPort: {{ $values.ports.http }}
          startupProbe:
            httpGet: {path: /health/live, port: http}
            {{- toYaml $values.probes.startup | nindent 12 }}
          readinessProbe:
            httpGet: {path: /health/ready, port: http}
            {{- toYaml $values.probes.readiness | nindent 12 }}
          livenessProbe:
            httpGet: {path: /health/live, port: http}
            {{- toYaml $values.probes.liveness | nindent 12 }}
          {{- if $values.drain.enabled }}
          lifecycle:
            preStop:
              exec:
                # The pause is for those who send clients here and have not yet heard that they should not.
                command: [/bin/sh, -c, "freehold drain --data /data; told=$?; sleep {{ $values.drain.pauseSeconds }}; exit $told"]
          {{- end }}
          resources:
            {{- toYaml .resources | nindent 12 }}
          securityContext:
            {{- toYaml $values.securityContext | nindent 12 }}
          volumeMounts:
            - name: data
              mountPath: /data
            - name: tmp
              mountPath: /tmp
            - name: cluster-tls
              mountPath: /etc/freehold/cluster
              readOnly: true
            {{- if ne $values.tls.client.source "none" }}
            - name: client-tls
              mountPath: /etc/freehold/client
              readOnly: true
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        - name: cluster-tls
          secret:
            secretName: {{ include "freehold.clusterSecret" .root }}
            defaultMode: 0440
            items:
              - {key: ca.crt, path: ca.crt}
              - {key: tls.crt, path: tls.crt}
              - {key: tls.key, path: tls.key}
        {{- if ne $values.tls.client.source "none" }}
        - name: client-tls
          secret:
            secretName: {{ include "freehold.clientSecret" .root }}
            defaultMode: 0440
            items:
              - {key: tls.crt, path: tls.crt}
              - {key: tls.key, path: tls.key}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: data
        labels:
          {{- include "freehold.selector" .root | nindent 10 }}
          app.kubernetes.io/component: node
        {{- with $values.persistence.annotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      spec:
        accessModes:
          {{- toYaml $values.persistence.accessModes | nindent 10 }}
        {{- with $values.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $values.persistence.size }}
{{- end -}}

{{/* The arguments of a node. */}}
{{- define "freehold.start" -}}
{{- $values := .Values -}}
{{- $any := $values.cluster.listenAddress -}}
{{- $args := list "start" "--data=/data"
      (printf "--listen=%s:%d" $any (int $values.ports.sql))
      (printf "--peer-listen=%s:%d" $any (int $values.ports.peer))
      (printf "--peer-advertise=$(POD_NAME).%s:%d" (include "freehold.domain" .) (int $values.ports.peer))
      (printf "--join=%s" (include "freehold.join" .))
      "--cluster-ca=/etc/freehold/cluster/ca.crt"
      "--cluster-cert=/etc/freehold/cluster/tls.crt"
      "--cluster-key=/etc/freehold/cluster/tls.key"
      (printf "--http=%s:%d" $any (int $values.ports.http)) -}}
{{- if ne $values.tls.client.source "none" -}}
{{- $args = concat $args (list "--tls-cert=/etc/freehold/client/tls.crt" "--tls-key=/etc/freehold/client/tls.key") -}}
{{- end -}}
{{- with include "freehold.locality" . -}}
{{- $args = append $args (printf "--locality=%s" .) -}}
{{- end -}}
{{- range $flag, $value := $values.settings -}}
{{- $args = append $args (printf "--%s=%v" $flag $value) -}}
{{- end -}}
{{- toYaml (concat $args $values.extraArgs) -}}
{{- end -}}

{{/* KEY=VALUE,... of where a node stands; empty if nothing is known. */}}
{{- define "freehold.locality" -}}
{{- $places := list -}}
{{- range $key, $value := .Values.locality.labels -}}
{{- $places = append $places (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- if .Values.locality.fromNode -}}
{{- if not (hasKey .Values.locality.labels "region") -}}
{{- $places = prepend $places "region=$(NODE_REGION)" -}}
{{- end -}}
{{- if not (hasKey .Values.locality.labels "zone") -}}
{{- $places = append $places "zone=$(NODE_ZONE)" -}}
{{- end -}}
{{- end -}}
{{- join "," $places -}}
{{- end -}}

{{- define "freehold.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: FREEHOLD_SUPERUSER_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "freehold.passwordSecret" . }}
      key: {{ include "freehold.passwordKey" . }}
{{- if .Values.locality.fromNode }}
- name: NODE_REGION
  valueFrom:
    fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/region']"}
- name: NODE_ZONE
  valueFrom:
    fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What is the same for the nodes and for the Jobs. */}}
{{- define "freehold.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "freehold.spread" -}}
{{- $values := .root.Values -}}
{{- $rules := list -}}
{{- $labels := merge (dict "app.kubernetes.io/component" "node") (include "freehold.selector" .root | fromYaml) -}}
{{- range $key, $when := dict "kubernetes.io/hostname" $values.topologySpread.hostname "topology.kubernetes.io/zone" $values.topologySpread.zone -}}
{{- if ne $when "none" -}}
{{- $rules = append $rules (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" $when "labelSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- end -}}
{{- with concat $rules $values.topologySpreadConstraints -}}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
