"""The kinds of objects that the operator reads and writes, and their paths on the apiserver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "CLAIM", "CONFIG_MAP", "EVENT", "JOB", "KINDS", "LEASE", "POD", "RAY_JOB", "RUN", "RUN_EVENT", "SERVICE", "Resource",
    "resource_of",
]  # fmt: skip


@dataclass(frozen=True)
class Resource:
    """A kind of object, all of them namespaced."""

    api_version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        """Where its group and version begin: /api/v1, /apis/batch/v1."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str, name: str | None = None, part: str | None = None) -> str:
        """Path of the collection, of an object in it, or of a part of that (status, proxy)."""
        pieces = [f"{self.root}/namespaces/{namespace}/{self.plural}", name, part]
        return "/".join(piece for piece in pieces if piece is not None)


RUN = Resource("selfalign.dev/v1alpha1", "SelfAlignmentRun", "selfalignmentruns")
JOB = Resource("batch/v1", "Job", "jobs")
RAY_JOB = Resource("ray.io/v1", "RayJob", "rayjobs")
POD = Resource("v1", "Pod", "pods")
CLAIM = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps")
SERVICE = Resource("v1", "Service", "services")
EVENT = Resource("v1", "Event", "events")  # read: the older API can select by involvedObject.uid
RUN_EVENT = Resource("events.k8s.io/v1", "Event", "events")  # written
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")

KINDS: Mapping[tuple[str, str], Resource] = {
    (each.api_version, each.kind): each
    for each in (
        RUN, JOB, RAY_JOB, CONFIG_MAP, SERVICE,
        Resource("v1", "Secret", "secrets"),
        Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Resource("scheduling.x-k8s.io/v1alpha1", "PodGroup", "podgroups"),
        Resource("scheduling.volcano.sh/v1beta1", "PodGroup", "podgroups"),
    )
}  # fmt: skip


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The kind of a manifest of ours. A KeyError is a mistake of the operator's, not of a user's."""
    return KINDS[manifest["apiVersion"], manifest["kind"]]
