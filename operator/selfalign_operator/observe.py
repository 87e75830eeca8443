"""From a key to all that counts for its run: the cache, and by GET or LIST only what matters at this moment.

A run that runs as it should costs no call; one that starts, ends or is in trouble costs one to three.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from selfalign_api.status import Status, StepStatus, WorkloadRef
from selfalign_operator.cache import Cache, Key
from selfalign_operator.effective import Frozen
from selfalign_operator.kube.client import ApiError, Kube
from selfalign_operator.kube.resources import CLAIM, CONFIG_MAP, EVENT, JOB, POD, RAY_JOB
from selfalign_operator.middle import Middle
from selfalign_operator.read import (
    claim_view,
    controller_uid,
    event_view,
    labels_of,
    pod_view,
    queue_words,
    workload_view,
)
from selfalign_operator.views import (
    ASK_KUEUE_SECONDS,
    ATTEMPT_LABEL,
    COLLECT_LABEL,
    STEP_LABEL,
    UID_LABEL,
    ClaimView,
    EventView,
    Observed,
    PodView,
    ProgressView,
    RunView,
    WorkloadView,
)

__all__ = ["Observer"]

NOT_RUNNING_SECONDS = 15.0  # a pod that does not run for so long is in trouble, and its events say in which
NO_PODS_SECONDS = 5.0  # an attempt that does not run for so long: before, it only starts
PODS_WITH_EVENTS = 4  # of a gang whose pods all have the same trouble
EVENTS = 50
FROZEN_KEPT = 2048  # of runs under way, 10 kB each
KUEUE_JOB_UID = "kueue.x-k8s.io/job-uid"  # label of a Workload
ALIVE = ("Pending", "Running", "Unknown")  # phases of a pod that has not ended
log = logging.getLogger(__name__)


@dataclass
class Observer:
    """Reads for one process."""

    kube: Kube
    cache: Cache
    middle: Middle
    progress: Callable[[Key], ProgressView | None]
    unread: Callable[[Key], bool]  # whether that cannot be had
    ray_jobs: Callable[[], bool]  # whether RayJob is installed
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        """ConfigMaps are immutable: those of the runs that are active stay here, and of no others."""
        self._frozen: OrderedDict[Key, Frozen] = OrderedDict()

    def forget(self) -> None:
        """Of what happened to runs meanwhile, one that did not lead has not been told."""
        self._frozen.clear()

    async def observe(self, key: Key) -> Observed | None:
        """All that counts for the run; None when there is none of that name. Raises ApiError."""
        run = self.cache.run(key)
        if run is None:
            self._frozen.pop(key, None)
            return None
        now = self.now()
        status = run.status
        if run.deleting or status.has_ended:
            self._frozen.pop(key, None)
            return Observed(run=run, now=now, workloads=self.cache.workloads(run.uid), rayjob_installed=self.ray_jobs())
        workloads = await self._workloads(run)
        current = status.current_step
        newest = _newest(run, current, workloads)
        pods = await self._pods(run, newest) if newest is not None and _pods_matter(newest, now) else ()
        found = await self._frozen_of(run)
        frozen = None if isinstance(found, str) else found
        run = replace(run, namespace_labels=await self._namespace_labels(run, frozen))
        return Observed(
            run=run,
            now=now,
            workloads=workloads,
            pods=pods,
            left=await self._left(run, current) if _is_between_attempts(run, current) else (),
            events=await self._events(run, newest, pods, now) if newest is not None else (),
            frozen=frozen,
            not_frozen=found if isinstance(found, str) else "",
            claims=await self._claims(run, frozen) if _is_before_first_job(status, current) else {},
            rayjob_installed=self.ray_jobs(),
            kueue_says=await self._kueue_says(run, newest, now) if newest is not None else None,
            progress=self.progress(key),
            progress_unread=self.unread(key),
        )

    async def _workloads(self, run: RunView) -> tuple[WorkloadView, ...]:
        """What the cache has, and by GET what the status names beside: a watch may be behind, a RayJob is read."""
        found = {workload.name: workload for workload in self.cache.workloads(run.uid)}
        for reference in _in_flight(run.status):
            cached = found.get(reference.name)
            if cached is not None and not (cached.kind == RAY_JOB.kind and cached.phase == "Active"):
                continue
            resource = RAY_JOB if reference.kind == RAY_JOB.kind else JOB
            raw = await self.kube.get(resource, run.namespace, reference.name)
            if raw is None:
                if cached is not None:
                    self.cache.drop_workload(cached.uid)
                    del found[reference.name]
                continue
            self.cache.put(raw)
            if (view := workload_view(raw)) is not None:
                found[view.name] = view
        return tuple(found.values())

    async def _pods(self, run: RunView, workload: WorkloadView) -> tuple[PodView, ...]:
        collect = f"{COLLECT_LABEL}=true" if workload.collect else f"!{COLLECT_LABEL}"
        labels = f"{UID_LABEL}={run.uid},{STEP_LABEL}={workload.step},{ATTEMPT_LABEL}={workload.attempt},{collect}"
        found = (pod_view(pod) for pod in await self.kube.list(POD, run.namespace, labels=labels))
        pods = tuple(pod for pod in found if pod is not None)
        self.cache.bind(workload.uid, sum(pod.node is not None and pod.phase in ALIVE for pod in pods))
        return pods

    async def _left(self, run: RunView, step: StepStatus | None) -> tuple[PodView, ...]:
        """Pods of the step that have not ended, whatever became of their workloads."""
        if step is None:
            return ()
        labels = f"{UID_LABEL}={run.uid},{STEP_LABEL}={step.name}"
        pods = (pod_view(pod) for pod in await self.kube.list(POD, run.namespace, labels=labels))
        return tuple(pod for pod in pods if pod is not None and pod.phase in ALIVE)

    async def _events(
        self, run: RunView, workload: WorkloadView, pods: tuple[PodView, ...], now: datetime
    ) -> tuple[EventView, ...]:
        """What stands in no status: why a Job gets no pods, why a pod does not run."""
        if workload.phase != "Active" or workload.suspended or workload.ready >= workload.size:
            return ()
        uids = [pod.uid for pod in pods if _is_unexplained(pod, now)][:PODS_WITH_EVENTS]
        if _lacks_pods(workload, pods, now):
            uids.append(workload.uid)
        found: list[EventView] = []
        for uid in uids:
            fields = f"involvedObject.uid={uid},type=Warning"
            events = (
                event_view(event) for event in await self.kube.list(EVENT, run.namespace, fields=fields, limit=EVENTS)
            )
            found += (event for event in events if event is not None)
        return tuple(found)

    async def _claims(self, run: RunView, frozen: Frozen | None) -> Mapping[str, ClaimView | None]:
        claims: dict[str, ClaimView | None] = {}
        for name in self.middle.claims(run, frozen):
            raw = await self.kube.get(CLAIM, run.namespace, name)
            claims[name] = None if raw is None else claim_view(raw)
        return claims

    async def _frozen_of(self, run: RunView) -> Frozen | str | None:
        """What was resolved when the run began; in words why that cannot be had; None before anything was."""
        if run.status.plan is None:
            return None
        plan, kept = run.status.plan, self._frozen.get(run.key)
        name = plan.config_map_name
        if kept is not None and kept.config_map_name == name:
            self._frozen.move_to_end(run.key)
            return kept
        raw = await self.kube.get(CONFIG_MAP, run.namespace, name)
        if raw is not None and controller_uid(raw.get("metadata", {})) != run.uid:
            return "is not this run's"
        frozen = self.middle.frozen_of_status(plan) if raw is None else self.middle.frozen(raw)
        if isinstance(frozen, str):
            return frozen
        self._frozen[run.key] = frozen
        if len(self._frozen) > FROZEN_KEPT:
            self._frozen.popitem(last=False)
        return frozen

    async def _namespace_labels(self, run: RunView, frozen: Frozen | None) -> Mapping[str, str] | None:
        """Of the run's namespace, where they decide; None also where they may not be read."""
        if not self.middle.asks_for_labels(run, frozen):
            return None
        try:
            return labels_of(await self.kube.read(f"/api/v1/namespaces/{run.namespace}"))
        except ApiError as error:
            if error.code in (403, 404):
                return None
            raise

    async def _kueue_says(self, run: RunView, workload: WorkloadView, now: datetime) -> str | None:
        """Why a Job that Kueue should admit waits, by the Workload that Kueue made of it; empty also without any Kueue."""
        if not workload.suspended or not _is_past(workload.created, ASK_KUEUE_SECONDS, now):
            return None
        try:
            group = await self.kube.read("/apis/kueue.x-k8s.io")
            version = group["preferredVersion"]["groupVersion"]
            path = f"/apis/{version}/namespaces/{run.namespace}/workloads"
            found = await self.kube.read(path, {"labelSelector": f"{KUEUE_JOB_UID}={workload.uid}", "limit": "1"})
        except ApiError as error:
            if error.code in (403, 404):
                return None if error.code == 403 else ""
            raise
        return queue_words(found["items"][0]) if found.get("items") else ""


def _in_flight(status: Status) -> Iterable[WorkloadRef]:
    """Workloads that the status speaks of and whose end it does not know."""
    return (step.workload for step in status.steps if step.workload is not None and not step.is_over)


def _newest(run: RunView, current: StepStatus | None, workloads: tuple[WorkloadView, ...]) -> WorkloadView | None:
    """The workload that the current step's status names, or a later one that was made before the status said so."""
    if current is None and run.status.steps:
        return None
    ours = [each for each in workloads if each.owner_uid == run.uid]
    if current is not None and current.workload is not None:
        named = next((each for each in ours if each.name == current.workload.name), None)
        if named is not None:
            return named
    step, attempts = (current.name, current.attempts) if current is not None else ("accept", 0)
    later = [each for each in ours if each.step == step and each.attempt > attempts]
    return max(later, key=lambda each: (each.attempt, each.collect), default=None)


def _pods_matter(workload: WorkloadView, now: datetime) -> bool:
    """While it does not start, loses pods or has ended; one that waits for its queue or its controller has none."""
    if workload.phase != "Active" or workload.terminating or workload.failed or workload.head_is_silent:
        return True
    if not workload.active and (workload.suspended or workload.started is None):
        return False
    return workload.ready < workload.size and _is_past(workload.started or workload.created, NO_PODS_SECONDS, now)


def _lacks_pods(workload: WorkloadView, pods: tuple[PodView, ...], now: datetime) -> bool:
    """Though its controller has taken it up: a controller that is busy says nothing in Events."""
    if workload.started is None or not _is_past(workload.started, NO_PODS_SECONDS, now):
        return False
    return max(workload.active, sum(pod.deleted is None for pod in pods)) < workload.size


def _is_between_attempts(run: RunView, step: StepStatus | None) -> bool:
    """An attempt is over, and the next one is due or the run is being suspended: what is left of it counts."""
    if step is None or step.workload is not None or not step.attempts or step.state == "Failed":
        return False
    return not run.status.is_true("Suspended") or run.spec.get("suspend") is not True


def _is_before_first_job(status: Status, current: StepStatus | None) -> bool:
    return not status.is_true("Accepted") and (current is None or current.workload is None)


def _is_unexplained(pod: PodView, now: datetime) -> bool:
    """Whether it does not run, and its own status does not say why: no node has room, its image cannot be had."""
    explained = pod.scheduled_message or pod.waiting_reason
    return pod.phase == "Pending" and not explained and _is_past(pod.created, NOT_RUNNING_SECONDS, now)


def _is_past(since: datetime, seconds: float, now: datetime) -> bool:
    return now - since > timedelta(seconds=seconds)
