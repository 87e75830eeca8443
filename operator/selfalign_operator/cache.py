"""What the watches have told: every run, packed, and the view of every workload of ours. Objects are dropped at once.

A run is kept as compressed JSON, a tenth of what it takes as objects: most runs are finished and looked at once.
Versions only rise: what comes late, twice or out of order changes nothing, and what was deleted does not come back.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selfalign_operator.gpu_clock import GpuClock
from selfalign_operator.kube.nesting import shallow
from selfalign_operator.kube.resources import JOB, RAY_JOB, RUN
from selfalign_operator.kube.traffic import Collection
from selfalign_operator.read import run_view, text, workload_view
from selfalign_operator.run_summary import Summary, summary_of
from selfalign_operator.views import UID_LABEL, RunView, WorkloadView

__all__ = ["Cache", "Key"]

Key = tuple[str, str]  # namespace and name of a run
REMEMBERED_DELETIONS = 4096  # what comes late is late by seconds
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # as large as the spec


@dataclass(slots=True)
class _Run:
    uid: str
    version: int
    packed: bytes
    summary: Summary


@dataclass(slots=True)
class _Workload:
    namespace: str
    version: int
    run_uid: str  # by its label; whether the run owns it is the view's owner_uid
    view: WorkloadView
    bound: int = 0  # its pods that had a node when they were last asked for

    @property
    def gpus(self) -> int:
        """That its pods hold: also one that is not ready, while its image is pulled, or a model loaded."""
        return self.view.gpus * max(self.view.ready, min(self.bound, self.view.active))

    @property
    def gpus_requested(self) -> int:
        """That its pods ask for, with a node or without."""
        return self.view.gpus * max(self.view.ready, self.view.active)


class Cache:
    """Runs by key, workloads by the uid of the run that their label names."""

    def __init__(self) -> None:
        self.gpus = GpuClock()
        self._runs: dict[Key, _Run] = {}
        self._keys: dict[str, Key] = {}  # uid of a run -> its key
        self._workloads: dict[str, _Workload] = {}  # by uid
        self._children: dict[str, set[str]] = {}  # uid of a run -> uids of workloads
        self._gone: dict[str, None] = {}  # uids of deleted objects, the oldest first
        self._listing: dict[Collection, tuple[int, set[str]]] = {}  # version and uids of a list under way
        self._listed: dict[Collection, int] = {}  # version of the last whole list

    # --- what is read -------------------------------------------------------------------------------------------------

    def run(self, key: Key) -> RunView | None:
        """The run of that name as it was last seen."""
        found = self._runs.get(key)
        return None if found is None else run_view(json.loads(zlib.decompress(found.packed)))

    def workloads(self, run_uid: str) -> tuple[WorkloadView, ...]:
        """All workloads in the run's namespace whose label names it, ours or not."""
        namespace = self._keys.get(run_uid, ("", ""))[0]
        children = (self._workloads[uid] for uid in sorted(self._children.get(run_uid, ())))
        return tuple(child.view for child in children if child.namespace == namespace)

    def all_keys(self) -> tuple[Key, ...]:
        """All runs."""
        return tuple(self._runs)

    def summaries(self) -> Iterator[tuple[Key, str, Summary]]:
        """Key, uid and summary of every run, for the metrics."""
        return ((key, run.uid, run.summary) for key, run in self._runs.items())

    def gpus_requested(self) -> dict[str, int]:
        """GPUs that pods of runs ask for, by namespace."""
        found = dict[str, int]()
        for child in self._workloads.values():
            if child.view.owner_uid == child.run_uid:
                found[child.namespace] = found.get(child.namespace, 0) + child.gpus_requested
        return found

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    # --- what is told by watches, lists, and answers to our own calls -------------------------------------------------

    def put(self, raw: dict[str, Any], *, listed: bool = False) -> Key | None:
        """Remember an object (of a list, with `listed`); the key of the run to look at when this was news."""
        metadata = _dict(raw, "metadata")
        uid, version = text(metadata, "uid"), _version(metadata)
        if not uid or uid in self._gone or (not listed and self._is_older_than_list(raw, uid, version)):
            return None
        if raw.get("kind") == RUN.kind:
            return self._put_run(raw, uid, version)
        return self._put_workload(raw, uid, version)

    def _is_older_than_list(self, raw: dict[str, Any], uid: str, version: int) -> bool:
        """Whether it is unknown although a later list has been taken note of: it was deleted before that list."""
        if uid in self._keys or uid in self._workloads:
            return False
        plural = {RUN.kind: RUN.plural, JOB.kind: JOB.plural}.get(raw.get("kind", ""), RAY_JOB.plural)
        namespace = text(_dict(raw, "metadata"), "namespace")
        return any(version <= self._listed.get(Collection(plural, each), -1) for each in (None, namespace))

    def remove(self, raw: dict[str, Any]) -> Key | None:
        """Forget an object that was deleted; the key of its run when it was there."""
        return self._forget(text(_dict(raw, "metadata"), "uid"))

    def drop_workload(self, uid: str) -> None:
        """Forget a workload that a GET did not find."""
        self._forget(uid)

    def bind(self, uid: str, pods: int) -> None:
        """So many pods of a workload of ours have a node: the watch of it does not say."""
        if (found := self._workloads.get(uid)) is not None and found.view.owner_uid == found.run_uid:
            found.bound = pods
            self.gpus.hold(uid, found.namespace, found.run_uid, found.gpus)

    def page(self, collection: Collection, first: bool, body: Any) -> tuple[Key, ...]:
        """Take note of a page of a list. When it is the last: forget what is not in the list, and name its runs.

        A watch that was interrupted for long is followed by a list, and no word of what was deleted in between.
        """
        if collection.plural not in (RUN.plural, JOB.plural, RAY_JOB.plural) or not isinstance(body, dict):
            return ()
        metadata = _dict(body, "metadata")
        begun = self._listing.pop(collection, None)
        if first:
            begun = _version(metadata), set[str]()
        if begun is None:
            return ()
        version, uids = begun
        uids |= {text(_dict(item, "metadata"), "uid") for item in body.get("items") or ()}
        if metadata.get("continue"):
            self._listing[collection] = begun
            return ()
        self._listed[collection] = version
        ghosts = [uid for uid in self._covered(collection, version) if uid not in uids]
        keys = [self._forget(uid) for uid in ghosts]
        return tuple(key for key in dict.fromkeys(keys) if key is not None)

    def _covered(self, collection: Collection, version: int) -> Iterator[str]:
        """Uids of what was there, by what we know, when a list of the collection was made."""
        if collection.plural == RUN.plural:
            for (namespace, _), run in self._runs.items():
                if run.version <= version and collection.namespace in (None, namespace):
                    yield run.uid
            return
        kind = JOB.kind if collection.plural == JOB.plural else RAY_JOB.kind
        for uid, child in self._workloads.items():
            if child.view.kind == kind and child.version <= version and collection.namespace in (None, child.namespace):
                yield uid

    def _put_run(self, raw: dict[str, Any], uid: str, version: int) -> Key | None:
        metadata = _dict(raw, "metadata")
        key = (text(metadata, "namespace"), text(metadata, "name"))
        before = self._runs.get(key)
        if before is not None and before.version >= version:
            return None
        if before is not None and before.uid != uid:
            self._forget(before.uid)  # deleted and made anew under its name; the deletion is on its way
        packed = zlib.compress(shallow(json.dumps(_lean(raw), separators=(",", ":")).encode()), 1)
        self._runs[key] = _Run(uid, version, packed, summary_of(raw))
        self._keys[uid] = key
        return key

    def _put_workload(self, raw: dict[str, Any], uid: str, version: int) -> Key | None:
        metadata = _dict(raw, "metadata")
        run_uid = text(_dict(metadata, "labels"), UID_LABEL)
        view = workload_view(raw)
        before = self._workloads.get(uid)
        if view is None or (before is not None and before.version >= version):
            return None
        if before is not None and before.run_uid != run_uid:
            self._unlink(uid, before)
        namespace = text(metadata, "namespace")
        made = _Workload(namespace, version, run_uid, view, 0 if before is None else before.bound)
        self._workloads[uid] = made
        if view.owner_uid == run_uid:
            self.gpus.hold(uid, namespace, run_uid, made.gpus)
        self._children.setdefault(run_uid, set()).add(uid)
        key = self._keys.get(run_uid)
        return key if key is not None and key[0] == namespace else None

    def _forget(self, uid: str) -> Key | None:
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]
        if (workload := self._workloads.pop(uid, None)) is not None:
            self.gpus.hold(uid, workload.namespace, workload.run_uid, 0)
            self._unlink(uid, workload)
            return self._keys.get(workload.run_uid)
        key = self._keys.pop(uid, None)
        if key is not None and self._runs[key].uid == uid:
            del self._runs[key]
        return key

    def _unlink(self, uid: str, workload: _Workload) -> None:
        siblings = self._children[workload.run_uid]
        siblings.discard(uid)
        if not siblings:
            del self._children[workload.run_uid]


def _lean(raw: dict[str, Any]) -> dict[str, Any]:
    """The object without what the operator never reads and what is as large as all the rest."""
    metadata = {field: value for field, value in raw["metadata"].items() if field != "managedFields"}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    return {**raw, "metadata": metadata}


def _version(metadata: dict[str, Any]) -> int:
    """The resourceVersion as a number: Kubernetes promises that they rise and may be compared (KEP-5504)."""
    found = text(metadata, "resourceVersion")
    return int(found) if found.isdecimal() else 0


def _dict(parent: dict[str, Any], field: str) -> dict[str, Any]:
    value = parent.get(field)
    return value if isinstance(value, dict) else {}
