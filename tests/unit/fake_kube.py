"""An apiserver in memory, as far as the operator's own code is concerned: versions, conflicts, refusals, and all calls."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from selfalign_operator.kube.client import ApiError
from selfalign_operator.kube.resources import KINDS, RUN, Resource

Json = dict[str, Any]


class FakeKube:
    """Has the methods of `kube.client.Kube`. `refuse` may raise for any write; `calls` holds (verb, plural, name)."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}  # (plural, namespace, name)
        self.calls: list[tuple[str, str, str]] = []
        self.queries: list[tuple[str, str, str]] = []  # (plural, labels, fields) of lists
        self.listed: dict[str, list[Json]] = {}  # plural -> what a list finds
        self.refuse: Callable[[str, Json], None] = lambda verb, manifest: None
        self.foreign_status: Json = {}  # fields of the status that another manager owns
        self.reads: dict[str, Json] = {}  # what stands at other paths
        self.version = 100

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        return [call for call in self.calls if call[0] not in ("get", "list")]

    def has(self, raw: Json) -> Json:
        """An object that is there, made by anybody."""
        plural = (
            KINDS[raw["apiVersion"], raw["kind"]].plural
            if (raw["apiVersion"], raw["kind"]) in KINDS
            else (raw["kind"].lower() + "s")
        )
        made = copy.deepcopy(raw)
        self.version += 1
        made["metadata"].setdefault("uid", f"uid-{made['metadata']['name']}")
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[plural, made["metadata"]["namespace"], made["metadata"]["name"]] = made
        return made

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        self.calls.append(("get", resource.plural, name))
        found = self.objects.get((resource.plural, namespace, name))
        return copy.deepcopy(found)

    async def list(
        self, resource: Resource, namespace: str, *, labels: str = "", fields: str = "", limit: int = 500
    ) -> list[Json]:
        self.calls.append(("list", resource.plural, ""))
        self.queries.append((resource.plural, labels, fields))
        return copy.deepcopy(self.listed.get(resource.plural, []))

    async def read(self, path: str, query: Any = None) -> Json:
        self.calls.append(("get", path, ""))
        if path not in self.reads:
            raise ApiError(404, "NotFound", "there is no such thing")
        return self.reads[path]

    async def create(self, resource: Resource, namespace: str, manifest: Json, *, dry_run: bool = False) -> Json:
        verb = "dry-run" if dry_run else "create"
        self.calls.append((verb, resource.plural, manifest["metadata"]["name"]))
        self.refuse(verb, manifest)
        if (resource.plural, namespace, manifest["metadata"]["name"]) in self.objects:
            raise ApiError(409, "AlreadyExists", "it is there")
        if dry_run:
            return manifest
        raw = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
        key = (resource.plural, namespace, manifest["metadata"]["name"])
        self.version += 1
        raw["metadata"] |= {"uid": f"uid-{key[2]}", "resourceVersion": str(self.version)}
        self.objects[key] = copy.deepcopy(raw)
        return raw

    async def apply_status(self, resource: Resource, namespace: str, manifest: Json) -> Json:
        return self._status("apply", namespace, manifest, manifest["status"] | self.foreign_status)

    async def replace(self, resource: Resource, namespace: str, manifest: Json, *, part: str | None = None) -> Json:
        self.foreign_status = {}
        return self._status("replace", namespace, manifest, manifest["status"])

    def _status(self, verb: str, namespace: str, manifest: Json, status: Json) -> Json:
        name = manifest["metadata"]["name"]
        self.calls.append((verb, RUN.plural, name))
        self.refuse(verb, manifest)
        run = self.objects[RUN.plural, namespace, name]
        if run["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        self.version += 1
        run["metadata"]["resourceVersion"] = str(self.version)
        run["status"] = copy.deepcopy(status)
        return copy.deepcopy(run)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        self.calls.append(("delete", resource.plural, name))
        self.refuse("delete", {"metadata": {"name": name}})
        found = self.objects.get((resource.plural, namespace, name))
        if found is not None and found["metadata"]["uid"] == uid:
            del self.objects[resource.plural, namespace, name]


def run_object(name: str = "run", namespace: str = "ns", version: int = 1, **status: Any) -> Json:
    """A SelfAlignmentRun."""
    return {
        "apiVersion": RUN.api_version,
        "kind": RUN.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-24T10:00:00Z",
        },
        "spec": {"recipe": "sao", "model": {"url": "hf://a/b"}},
        "status": status,
    }


def job_object(
    name: str = "job",
    run: str = "run",
    version: int = 2,
    step: str = "i1-train",
    owner: str | None = None,
    **parts: Any,
) -> Json:
    """A Job of a run's attempt. `parts` are spec and status."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-24T10:00:00Z",
            "labels": {
                "selfalign.dev/run-uid": f"uid-{run}",
                "selfalign.dev/step": step,
                "selfalign.dev/attempt": "1",
            },
            "ownerReferences": [{"uid": owner or f"uid-{run}", "controller": True, "kind": RUN.kind, "name": run}],
        },
        "spec": {"parallelism": 2, "podFailurePolicy": {}} | parts.get("spec", {}),
        "status": parts.get("status", {}),
    }
