{{/* What the operator may do, in the namespaces that it serves. It neither reads nor lists Secrets. */}}
{{- define "selfalign-operator.rules" -}}
- apiGroups: [selfalign.dev]
  resources: [selfalignmentruns]
  verbs: [get, list, watch, delete]  # delete: ttlSecondsAfterFinished
- apiGroups: [selfalign.dev]
  resources: [selfalignmentruns/status]
  verbs: [patch, update]
- apiGroups: [selfalign.dev]
  resources: [selfalignmentruns/finalizers]
  verbs: [update]  # where OwnerReferencesPermissionEnforcement is on, to own what blocks a run's deletion
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods, events]
  verbs: [list]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, create]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]  # where a profile has namespaceSelector: the labels of a run's namespace
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create]  # where a profile has disruptionBudget
- apiGroups: [scheduling.x-k8s.io, scheduling.volcano.sh]
  resources: [podgroups]
  verbs: [get, create]  # where a profile has gangScheduling
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]  # whether Kueue has seen a Job that waits
{{- end }}

{{/* Fails where another release serves one of the namespaces already: two would work against each other. */}}
{{- define "selfalign-operator.refuseSecond" -}}
{{- $root := . }}
{{- $kind := .Values.watchNamespaces | empty | ternary "ClusterRoleBinding" "RoleBinding" }}
{{- range (.Values.watchNamespaces | default (list "")) }}
{{- $namespace := . }}
{{- range (lookup "rbac.authorization.k8s.io/v1" $kind $namespace "").items }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $labels := .metadata.labels | default dict }}
{{- $name := index $annotations "meta.helm.sh/release-name" | default "" }}
{{- $home := index $annotations "meta.helm.sh/release-namespace" | default "" }}
{{- $ours := and (eq $name $root.Release.Name) (eq $home $root.Release.Namespace) }}
{{- $operates := and (hasPrefix "selfalign-operator-" (index $labels "helm.sh/chart" | default "")) (not (hasSuffix "-lease" .metadata.name)) }}
{{- if and $operates (not $ours) }}
{{- fail (printf "release %s in namespace %s serves %s already, and two operators would work against each other; uninstall it, or give each its own watchNamespaces" $name $home ($namespace | default "all namespaces")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "selfalign-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "selfalign-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
