"""From a decision to calls, in the order that makes a kill between any two of them harmless (decision.py).

Children are made by POST, once, and never changed. The status is a server-side apply with the resourceVersion that it
was computed from: whoever computed it from something old gets a 409.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from selfalign_api.status import Status, read_status
from selfalign_operator.cache import Cache, Key
from selfalign_operator.decision import Decision, RunEvent
from selfalign_operator.events import event
from selfalign_operator.kube.client import ApiError, Kube
from selfalign_operator.kube.resources import JOB, KINDS, RAY_JOB, RUN, RUN_EVENT, resource_of
from selfalign_operator.read import controller_uid, text
from selfalign_operator.views import Manifest, Refusal, RunView

__all__ = ["Applied", "Applier"]

QUIET_SECONDS = 30.0  # between two writes of a status in which only progress changed
REFUSED = (400, 403, 404, 413, 422)  # answers that another try does not change
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What became of a decision. With refusals nothing but the creations before the first of them was done."""

    refusals: tuple[Refusal, ...] = ()
    status: Status | None = None  # as it stands now; None: it was not written
    wait_seconds: float | None = None  # the status waits so long for its turn


@dataclass
class Applier:
    """Writes for one process. Every method raises ApiError where trying again may help, and NotLeader."""

    kube: Kube
    cache: Cache
    instance: str  # who writes, for Events
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _written: dict[Key, float] = field(default_factory=dict)

    async def apply(self, run: RunView, decision: Decision) -> Applied:
        """Dry runs, creations, the status, deletions, events."""
        for manifest in decision.dry_runs:
            if (refusal := await self._try(run, manifest)) is not None:
                return Applied((refusal,))
        made: dict[str, Any] = {}
        missing = await self._missing(run, decision.ensured)
        for manifest in (*missing, *decision.creations):
            created = await self._create(run, manifest)
            if isinstance(created, Refusal):
                return Applied((created,))
            made = created
        status = decision.status
        if decision.workload_of is not None:
            status = _with_uid(status, decision.workload_of, made)
        try:
            written, wait = await self._write_status(run, status, urgent=decision.urgent)
        except ApiError as error:
            if error.code == 422:
                await self._tell(run, _status_refused(error), 0, {})
            raise
        for deletion in decision.deletions:
            resource = KINDS[deletion.api_version, deletion.kind]
            await self.kube.delete(resource, run.namespace, deletion.name, deletion.uid)
        if decision.delete_run:
            await self.kube.delete(RUN, run.namespace, run.name, run.uid)
        for told in decision.events:
            await self._tell(run, told, decision.events.index(told), step_fields(decision.status))
        return Applied(status=written, wait_seconds=wait)

    def forget(self, key: Key | None = None) -> None:
        """The run is gone; without one: any may be."""
        if key is None:
            self._written.clear()
        else:
            self._written.pop(key, None)

    # --- creations ----------------------------------------------------------------------------------------------------

    async def _try(self, run: RunView, manifest: Manifest) -> Refusal | None:
        try:
            await self.kube.create(resource_of(manifest), run.namespace, manifest, dry_run=True)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return None  # made by an earlier try of this very decision; `_create` sees whose it is
            return _refusal(manifest, error)
        return None

    async def _missing(self, run: RunView, manifests: Sequence[Manifest]) -> list[Manifest]:
        """Those that are not there, or not the run's. A Secret is made again and found there: it is not read."""

        async def lacks(manifest: Manifest) -> bool:
            resource = resource_of(manifest)
            if resource.kind == "Secret":
                return True
            found = await self.kube.get(resource, run.namespace, manifest["metadata"]["name"])
            return found is None or controller_uid(found.get("metadata", {})) != run.uid

        lacking = await asyncio.gather(*map(lacks, manifests))
        return [manifest for manifest, is_lacking in zip(manifests, lacking, strict=True) if is_lacking]

    async def _create(self, run: RunView, manifest: Manifest) -> dict[str, Any] | Refusal:
        """The object as it is now, made by this call or by an earlier one."""
        resource = resource_of(manifest)
        try:
            made = await self.kube.create(resource, run.namespace, manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                return _refusal(manifest, error)
            if resource.kind == "Secret":
                return {}  # the operator may create Secrets, not read them; the name has the run's uid in it
            found = await self.kube.get(resource, run.namespace, manifest["metadata"]["name"])
            if found is None:
                raise  # deleted meanwhile: try again
            if controller_uid(found.get("metadata", {})) != run.uid:
                return Refusal(
                    manifest, 409, f"{resource.kind} {manifest['metadata']['name']} belongs to somebody else"
                )
            made = found
        if resource in (JOB, RAY_JOB):
            self.cache.put(made)
        return made

    # --- the status ---------------------------------------------------------------------------------------------------

    async def _write_status(self, run: RunView, status: Status, *, urgent: bool) -> tuple[Status | None, float | None]:
        """The status as it stands after it was written; None when there was nothing to write, or not yet."""
        if status == run.status and not run.status_problems:
            return None, None
        left = self._written.get(run.key, -QUIET_SECONDS) + QUIET_SECONDS - self.clock()
        if not urgent and left > 0:
            return None, left
        metadata = {"name": run.name, "namespace": run.namespace, "resourceVersion": run.resource_version}
        manifest = {
            "apiVersion": RUN.api_version,
            "kind": RUN.kind,
            "metadata": metadata,
            "status": status.model_dump(mode="json", exclude_none=True),
        }
        wait = None
        try:
            self.cache.put(await self._put_status(run, manifest, status))
        except ApiError as error:
            if error.code != 409 or not await self._stands(run, status):
                raise
            wait = 0.0  # what else has changed is in the cache now, and no news when the watch tells it
        self._written[run.key] = self.clock()
        return status, wait

    async def _put_status(self, run: RunView, manifest: dict[str, Any], status: Status) -> dict[str, Any]:
        """By server-side apply; by PUT where that is not enough, or where an older CRD took a spec that today's does not."""
        try:
            answer = await self.kube.apply_status(RUN, run.namespace, manifest)
        except ApiError as error:
            if not error.is_of_live_object:
                raise
        else:
            if read_status(answer.get("status")) == (status, ()):
                return answer
            # Somebody added entries: applying ours takes over fields, it removes no one else's. A PUT does.
            manifest["metadata"]["resourceVersion"] = text(answer["metadata"], "resourceVersion")
        return await self.kube.replace(RUN, run.namespace, manifest, part="status")

    async def _stands(self, run: RunView, status: Status) -> bool:
        """After a conflict: whether it was our own write, whose answer was lost. The cache has what was found, in any case."""
        raw = await self.kube.get(RUN, run.namespace, run.name)
        if raw is None:
            return False
        self.cache.put(raw)
        return text(raw["metadata"], "uid") == run.uid and read_status(raw.get("status")) == (status, ())

    # --- events -------------------------------------------------------------------------------------------------------

    async def _tell(self, run: RunView, told: RunEvent, number: int, step: Mapping[str, object]) -> None:
        """One Event a transition: its name says which, so that telling it twice is no second one.

        Names rise with the versions of the run: `kubectl describe` shows Events of one second in the order of their names.
        """
        fields = {"namespace": run.namespace, "run": run.name, **step, "reason": told.reason}
        log.info("run %s/%s: %s: %s", run.namespace, run.name, told.reason, told.message, extra=fields)
        transition = f"{run.uid}/{run.resource_version}/{told.reason}/{told.message}"
        version = int(run.resource_version) if run.resource_version.isdecimal() else 0
        digest = hashlib.sha256(transition.encode()).hexdigest()[:8]
        about = {"namespace": run.namespace, "name": run.name, "uid": run.uid, "resourceVersion": run.resource_version}
        manifest = event(
            f"{run.name}.{version:016x}{number % 256:02x}{digest}",
            RUN,
            about,
            type_=told.type,
            reason=told.reason,
            note=told.message,
            instance=self.instance,
            now=self.now(),
        )
        try:
            await self.kube.create(RUN_EVENT, run.namespace, manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":  # an Event is for people; no run waits for it
                log.warning("run %s/%s: an Event cannot be written: %s", run.namespace, run.name, error)


def step_fields(status: Status) -> dict[str, object]:
    """What a line of the log says beside its run: the step that is under way, and its attempt."""
    current = status.current_step
    return {} if current is None else {"step": current.name, "attempt": current.attempts}


def _status_refused(error: ApiError) -> RunEvent:
    """An object of an older CRD that today's does not take, not even with a changed status."""
    message = f"no status can be written, for the cluster's schema refuses this object: {error.message}; mend its spec"
    return RunEvent("Warning", "StatusRefused", message)


def _refusal(manifest: Manifest, error: ApiError) -> Refusal:
    if error.code in REFUSED:
        return Refusal(manifest, error.code, error.message)
    raise error


def _with_uid(status: Status, step_name: str, workload: dict[str, Any]) -> Status:
    """The status with the uid that the apiserver gave the step's workload."""
    uid = text(workload.get("metadata", {}), "uid")
    steps = tuple(
        step.model_copy(update={"workload": step.workload.model_copy(update={"uid": uid})})
        if step.name == step_name and step.workload is not None
        else step
        for step in status.steps
    )
    return status.model_copy(update={"steps": steps})
