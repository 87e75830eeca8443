"""An attempt that does not run holds the GPUs of its other pods, and two of them each other's: how long it may."""

from __future__ import annotations

from selfalign_api.status import StepStatus
from selfalign_operator.reconcile.ending import Ending
from selfalign_operator.reconcile.times import parse_time, time_text
from selfalign_operator.reconcile.trouble import Trouble, trouble_of
from selfalign_operator.reconcile.turn import Turn
from selfalign_operator.views import WorkloadView

__all__ = ["TO_BE_MENDED", "never_ran"]

# What a person must mend: an attempt that ends for it counts. Room, and a quota, come by themselves.
TO_BE_MENDED = ("ImagePullFailed", "PodRejected", "SecretNotFound", "ClaimNotFound", "StorageUnavailable")


def _waits(step: StepStatus, workload: WorkloadView, turn: Turn) -> bool:
    """Whether the attempt does nothing: a training lacks one of its pods, any other step its index 0.

    A training that has run whole ends by itself when it loses a pod.
    """
    if workload.ready >= workload.size:
        return False
    if step.kind == "train":
        return step.running_since is None
    if not turn.observed.pods:  # not asked for yet
        return workload.ready == 0
    return all(pod.phase == "Pending" for pod in turn.observed.pods if pod.index == 0 and pod.deleted is None)


def never_ran(turn: Turn, step: StepStatus, workload: WorkloadView) -> Ending | None:
    """The end of an attempt that waits for longer than startupDeadlineSeconds; counted where a person must mend the cause.

    The time counts from when its workload began; of one that ran before, from when that was first seen, which the status keeps.
    """
    assert turn.spec is not None
    if not _waits(step, workload, turn):
        turn.step(step, waiting_since=None)
        return None
    since = workload.started or workload.created
    if step.running_since is not None:
        since = parse_time(step.waiting_since) or turn.observed.now
        step = turn.step(step, waiting_since=time_text(since))
    limit, waited = turn.spec.failure_policy.startup_deadline_seconds, (turn.observed.now - since).total_seconds()
    if waited <= limit:
        turn.look_again(limit - waited)
        return None
    trouble = trouble_of(workload, turn.observed)
    message = f"{workload.ready} of {workload.size} pods run after {waited:.0f} s (startupDeadlineSeconds: {limit})"
    words = message + (f": {trouble.message}" if trouble else "")
    return Ending("NotStarted", words) if _is_to_be_mended(trouble) else Ending("GangNotPlaced", words, counted=False)


def _is_to_be_mended(trouble: Trouble | None) -> bool:
    return trouble is not None and trouble.reason in TO_BE_MENDED
