"""How an attempt ended, from its workload and its pods: a typed reason, and whether it counts as a failure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from selfalign_api.outcome import Exit
from selfalign_operator.views import PodView, WorkloadView

__all__ = [
    "GATE", "Ending", "by_hand", "deleted_pod", "failure_of", "head_lost", "step_ended", "termination_of",
]  # fmt: skip

GATE = "GateNotPassed"
EVICTIONS = ("Evicted", "Preempting", "Preempted", "NodeShutdown", "Terminated", "NodeLost")
# What steps say of results: a loss that is no number any more, a figure below what it must be.
OF_RESULTS = ("TrainingDiverged", GATE)
FINAL = ("InvalidConfig", *OF_RESULTS)  # exit 64: trying again would end the same way
# In the message of a Job that podFailurePolicy ended, and of a RayJob whose entry point ended so.
EXIT_CODE = re.compile(r"exit code (\d+)")
BY_SIGNAL = (Exit.STOPPED, 128 + 9, 128 + 15)  # exit codes of a program that was told to end
FIRST_WORDS, LAST_WORDS = 160, 800  # characters kept of a RayJob's message, which ends with 20,000 of its log


@dataclass(frozen=True)
class Ending:
    """Why an attempt did not succeed."""

    reason: str
    message: str
    counted: bool = True  # against maxRetriesPerStep
    exit_code: int | None = None
    node: str | None = None
    spent: bool = False  # the Job has tried again as often as the step may be
    vanished: bool = False  # nothing is left of its pods: one cannot see whether they failed by themselves
    details: str = ""  # the reason that the step program gave, such as DataNotFound

    @property
    def final(self) -> bool:
        """Whether no attempt is made after it."""
        return self.reason in FINAL


def failure_of(workload: WorkloadView, pods: Iterable[PodView]) -> Ending:
    """How a failed workload ended. What pods say counts; when they are gone, what the Job's condition says."""
    ending = _failure_of(workload, pods)
    # An index of a generation gang has failed as often as a step may (backoffLimitPerIndex, workloads/gang.py).
    return replace(ending, spent=ending.counted and workload.reason == "MaxFailedIndexesExceeded")


def _failure_of(workload: WorkloadView, pods: Iterable[PodView]) -> Ending:
    ended = sorted((pod for pod in pods), key=lambda pod: (pod.index, pod.created))
    if workload.kind == "RayJob" and EXIT_CODE.search(workload.message):
        return _from_condition(workload)
    # The containers of a RayJob are Ray's: their exit codes are not the step program's.
    first, then = (
        ((_disruption,), (_memory,)) if workload.kind == "RayJob" else ((_config, _disruption), (_memory, _failure))
    )
    found = _judged(first, ended) or _deleted(ended) or _judged(then, ended)
    return found or _vanished(workload, ended) or _from_condition(workload)


def _judged(judges: Iterable[Callable[[PodView], Ending | None]], pods: Sequence[PodView]) -> Ending | None:
    """What the first judge says who says something of a pod."""
    endings = (judge(pod) for judge in judges for pod in pods)
    return next((ending for ending in endings if ending is not None), None)


def deleted_pod(pods: Iterable[PodView]) -> PodView | None:
    """A pod that somebody deleted while it ran, before any other failed: a Job deletes what is left of a gang that fails."""
    pods = tuple(pods)
    failed = [pod.ended for pod in pods if pod.exit_code not in (None, 0) and pod.ended and not _was_deleted(pod)]
    told = [pod for pod in pods if _was_deleted(pod) and not pod.disruption]
    return next((pod for pod in told if all(_told_to_end(pod) < moment for moment in failed)), None)


def _told_to_end(pod: PodView) -> datetime:
    assert pod.deleted is not None
    return pod.deleted - timedelta(seconds=pod.grace_seconds)


def _was_deleted(pod: PodView) -> bool:
    """Whether its deletion ended it: not one that had failed by itself, nor what is cleaned up behind it."""
    if pod.deleted is None or pod.exit_code not in (None, *BY_SIGNAL):
        return False
    return pod.ended is None or _told_to_end(pod) <= pod.ended


def _deleted(pods: Iterable[PodView]) -> Ending | None:
    pod = deleted_pod(pods)
    return None if pod is None else by_hand(pod.name, pod.exit_code, pod.node)


def _vanished(workload: WorkloadView, pods: Sequence[PodView]) -> Ending | None:
    """A Job keeps the pods that failed. One that has failed by its pods and has none of them: they were deleted at once."""
    by_pods = workload.kind == "Job" and workload.reason in ("BackoffLimitExceeded", "MaxFailedIndexesExceeded")
    if pods or not by_pods or EXIT_CODE.search(workload.message):
        return None
    return Ending(
        "Deleted", f"the pods of Job {workload.name} are gone: they were deleted", counted=False, vanished=True
    )


def by_hand(pod: str, exit_code: int | None = None, node: str | None = None) -> Ending:
    """An attempt that ended because a person deleted one of its pods."""
    return Ending("Deleted", f"pod {pod} was deleted", False, exit_code, node)


def step_ended(workload: WorkloadView, pods: Iterable[PodView]) -> bool:
    """Whether the step has ended in a pod that lives on: a container that somebody injected beside it keeps it.

    Index 0 speaks for all of them when it ended well; a pod's failure is the attempt's, as its Job cannot see it.
    Of a RayJob the containers are Ray's own.
    """
    over = [pod for pod in pods if pod.phase == "Running" and pod.exit_code is not None]
    return workload.kind == "Job" and any(pod.index == 0 or pod.exit_code != Exit.DONE for pod in over)


def head_lost(workload: WorkloadView, pods: Iterable[PodView]) -> Ending | None:
    """Ray's head is gone: KubeRay makes no second one (workloads/rayjob.py), and waits five minutes before it says so."""
    heads = [pod for pod in pods if pod.index == 0]
    if not workload.head_is_silent or any(pod.deleted is None and pod.exit_code is None for pod in heads):
        return None
    if (ending := _judged((_disruption,), heads) or _deleted(heads) or _judged((_memory,), heads)) is not None:
        return ending
    return Ending("StepFailed", f"the pod of Ray's head is gone, and RayJob {workload.name} with it")


def termination_of(pods: Iterable[PodView]) -> dict[str, object] | None:
    """The summary that index 0 left when it ended well; None when its pod is gone or said nothing readable."""
    for pod in pods:
        if pod.index == 0 and pod.exit_code == Exit.DONE:
            body = _body(pod)
            if body is not None and "step" in body:
                return body
    return None


def _body(pod: PodView) -> dict[str, object] | None:
    try:
        body = json.loads(pod.termination_message)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _said(pod: PodView) -> str:
    """What a pod says of its end: the program's error, else the last lines of its log, else the kubelet's word."""
    body = _body(pod)
    if body is not None:
        return str(body.get("error") or body.get("stopped") or "it gave no reason")
    return pod.termination_message.strip() or pod.status_message or pod.exit_reason or "it gave no reason"


def _config(pod: PodView) -> Ending | None:
    if pod.exit_code != Exit.CONFIG:
        return None
    details = str((_body(pod) or {}).get("reason", ""))
    reason = details if details in OF_RESULTS else "InvalidConfig"
    return Ending(reason, _said(pod), True, Exit.CONFIG, pod.node, details=details)


def _disruption(pod: PodView) -> Ending | None:
    why = pod.disruption or (pod.status_reason if pod.status_reason in EVICTIONS else "")
    if not why:
        return None
    where = f" on {pod.node}" if pod.node else ""
    message = f"pod {pod.name}{where} was disrupted ({why}){': ' + pod.status_message if pod.status_message else ''}"
    return Ending("Disrupted", message, False, pod.exit_code, pod.node)


def _memory(pod: PodView) -> Ending | None:
    if pod.exit_reason != "OOMKilled":
        return None
    message = (
        f"pod {pod.name} used more memory than it may (OOMKilled); raise resources.limits.memory of its section under "
        "spec.compute while the run is suspended, or lower microBatchTokens"
    )
    return Ending("OutOfMemory", message, True, pod.exit_code, pod.node)


def _failure(pod: PodView) -> Ending | None:
    if pod.exit_code in (None, 0):
        return None
    message = f"pod {pod.name} ended with exit code {pod.exit_code}: {_said(pod)}"
    reason = "Stopped" if pod.exit_code == Exit.STOPPED else "StepFailed"
    return Ending(reason, message, True, pod.exit_code, pod.node)


def _from_condition(workload: WorkloadView) -> Ending:
    """The pods are gone: the Job's own condition is what is left."""
    said = f"{workload.kind} {workload.name}: {_ends(workload.message) or workload.reason or 'failed, and its pods are gone'}"
    if "DisruptionTarget" in workload.message:
        return Ending("Disrupted", said, False)
    found = EXIT_CODE.search(workload.message)
    code = int(found[1]) if found else None
    if code == Exit.CONFIG or workload.reason == "ValidationFailed":  # the latter is KubeRay's, of its own spec
        return Ending("InvalidConfig", said, True, code)
    return Ending("Stopped" if code == Exit.STOPPED else "StepFailed", said, True, code)


def _ends(message: str) -> str:
    """A message, or the two ends of a long one: a log says why at its end."""
    if len(message) <= FIRST_WORDS + LAST_WORDS:
        return message
    return f"{message[:FIRST_WORDS]} … {message[-LAST_WORDS:]}"
