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
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]  # whether Kueue has seen a Job that waits
{{- end }}

{{- define "selfalign-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "selfalign-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
