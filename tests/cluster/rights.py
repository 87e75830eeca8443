"""The operator's rights where it works: a Role made of them is enough (test_process.py), and the chart grants no others."""

RIGHTS = (
    ("selfalign.dev", ["selfalignmentruns"], ["get", "list", "watch", "delete"]),
    ("selfalign.dev", ["selfalignmentruns/status"], ["patch", "update"]),
    ("selfalign.dev", ["selfalignmentruns/finalizers"], ["update"]),
    ("batch", ["jobs"], ["get", "list", "watch", "create", "delete"]),
    ("", ["pods", "events"], ["list"]),
    ("", ["services", "configmaps"], ["get", "create"]),
    ("", ["secrets"], ["create"]),
    ("", ["persistentvolumeclaims"], ["get"]),
    ("", ["namespaces"], ["get"]),
    ("networking.k8s.io", ["networkpolicies"], ["get", "create"]),
    ("policy", ["poddisruptionbudgets"], ["get", "create"]),
    ("scheduling.x-k8s.io", ["podgroups"], ["get", "create"]),
    ("scheduling.volcano.sh", ["podgroups"], ["get", "create"]),
    ("events.k8s.io", ["events"], ["create"]),
    ("ray.io", ["rayjobs"], ["get", "list", "watch", "create", "delete"]),
    ("kueue.x-k8s.io", ["workloads"], ["list"]),
)
