{{- define "selfalign-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* RELEASE-CHART, or RELEASE alone where that has the chart's name in it already. */}}
{{- define "selfalign-operator.fullname" -}}
{{- $name := include "selfalign-operator.name" . }}
{{- $whole := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $whole | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "selfalign-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "selfalign-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of every object. A label of commonLabels takes the place of one of ours, but for those of the selectors. */}}
{{- define "selfalign-operator.labels" -}}
{{- include "selfalign-operator.labelsWith" (list . dict) }}
{{- end }}

{{/* The same with further labels, which count before commonLabels: (list ROOT LABELS). */}}
{{- define "selfalign-operator.labelsWith" -}}
{{- $root := index . 0 }}
{{- $fixed := include "selfalign-operator.selectorLabels" $root | fromYaml }}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- $ours := dict "app.kubernetes.io/version" $root.Chart.AppVersion "helm.sh/chart" $chart }}
{{- merge $fixed (deepCopy (index . 1)) (deepCopy $root.Values.commonLabels) $ours | toYaml }}
{{- end }}

{{- define "selfalign-operator.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "selfalign-operator.fullname" .) "default") }}
{{- end }}

{{- define "selfalign-operator.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The operator's configuration file. Whoever may read /progress, the operator may. */}}
{{- define "selfalign-operator.config" -}}
{{- $network := deepCopy .Values.network }}
{{- if kindIs "slice" $network.progress }}
{{- $self := dict "namespace" .Release.Namespace "podLabels" (include "selfalign-operator.selectorLabels" . | fromYaml) }}
{{- $_ := set $network "progress" (prepend $network.progress $self) }}
{{- end }}
{{- dict "images" .Values.images "profiles" .Values.profiles "network" $network | toYaml }}
{{- end }}
