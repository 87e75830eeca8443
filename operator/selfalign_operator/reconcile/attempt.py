"""The attempt that is under way, and the one that is due."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from selfalign_api.status import StepProgress, StepStatus, WorkloadRef
from selfalign_operator.reconcile.ending import (
    Ending,
    by_hand,
    deleted_pod,
    failure_of,
    head_lost,
    step_ended,
    termination_of,
)
from selfalign_operator.reconcile.left_behind import left_behind
from selfalign_operator.reconcile.plan import planned
from selfalign_operator.reconcile.startup import never_ran
from selfalign_operator.reconcile.steps import (
    SECOND_LOOK,
    active_workloads,
    begin,
    collect,
    current_step,
    fail,
    longest_backoff,
    lose,
    remember,
    starting,
    succeed,
)
from selfalign_operator.reconcile.times import parse_time, time_text
from selfalign_operator.reconcile.trouble import lost_pod, trouble_of
from selfalign_operator.reconcile.turn import Turn
from selfalign_operator.views import ASK_KUEUE_SECONDS, WorkloadView

SUPERSEDED = Ending("Superseded", "a later attempt was made", counted=False)

__all__ = ["adopt", "current_attempt", "next_attempt"]

STARTING_SECONDS = 10.0  # how soon an attempt that does not run yet is looked at again: its pods are not watched
# Each look asks for all of its pods, and a thousand runs may wait; that a pod runs at last is told by the watch of its Job.
MOST_WAITING_SECONDS = 600.0
MOST_FIRST_SECONDS = 300.0  # until the first look at an attempt whose step has found no room before
MOST_VANISHED = 3  # attempts in a row whose pods are gone before they were seen to end: from then on they count
RUNNING_SECONDS = 60.0
FRESH_SECONDS = 60.0  # a progress reading older than this says nothing about standing still
UNREAD = "; how far it is cannot be read: its port 8080 does not answer the operator"


def current_attempt(turn: Turn) -> bool:
    """Follow the newest attempt of the current step; False when it ended, or there is none."""
    step = current_step(turn)
    if step is None:
        return False
    _sweep(turn, step)
    if step.workload is None:
        return False
    workload = _workload(turn, step.workload.name)
    if workload is None:
        lose(turn, step, Ending("Deleted", f"{step.workload.kind} {step.workload.name} was deleted", counted=False))
        return False
    if workload.uid != step.workload.uid:
        step = turn.step(step, workload=_reference(workload))
    if not workload.keeps_policies:
        return _unsupported(turn, step, workload)
    if workload.phase == "Active" and step_ended(workload, turn.observed.pods):
        return _kept_alive(turn, step, workload)
    if workload.phase == "Complete":
        return _complete(turn, step, workload)
    if workload.phase == "Failed":
        _failed(turn, step, workload)
        return False
    return _under_way(turn, step, workload)


def _workload(turn: Turn, name: str) -> WorkloadView | None:
    return next((workload for workload in turn.ours if workload.name == name), None)


def adopt(turn: Turn) -> bool:
    """A workload of a later attempt than the status knows: it was made, and the operator died before it said so.

    First of all, so that nothing is deleted that the status does not know: the status is written before deletions, and
    one computed from an old object is refused.
    """
    step = current_step(turn)
    newer = [] if step is None else [w for w in _of(turn, step) if w.attempt > step.attempts]
    if step is None or not newer:
        return False
    newest = max(newer, key=lambda workload: workload.attempt)
    if step.workload is not None and (before := _workload(turn, step.workload.name)) is not None:
        ending = failure_of(before, turn.observed.pods) if before.phase == "Failed" else SUPERSEDED
        step = remember(turn, step, ending)
    if step.state == "Failed" or turn.status.is_true("Failed"):
        turn.step(step, attempts=newest.attempt)
        return False
    turn.step(
        step,
        state="Running",
        reason="StepStarting",
        attempts=newest.attempt,
        workload=_reference(newest),
        collecting=newest.collect,
        start_time=step.start_time or time_text(newest.created),
        next_attempt_time=None,
    )
    turn.look_again(0)  # the pods that were observed are those of the attempt before
    return True


def _sweep(turn: Turn, step: StepStatus) -> None:
    """Workloads that the status has given up and that still run: their deletion was lost, or their creation came late."""
    for workload in active_workloads(turn):
        if step.workload is None or (workload.step, workload.attempt) != (step.name, step.attempts):
            turn.delete(workload)


def _of(turn: Turn, step: StepStatus) -> list[WorkloadView]:
    return [workload for workload in turn.ours if workload.step == step.name]


def _reference(workload: WorkloadView) -> WorkloadRef:
    api_version = "batch/v1" if workload.kind == "Job" else "ray.io/v1"
    return WorkloadRef(api_version=api_version, kind=workload.kind, name=workload.name, uid=workload.uid)


def _unsupported(turn: Turn, step: StepStatus, workload: WorkloadView) -> bool:
    message = (
        f"Job {workload.name} came back without its policies: this cluster is too old; selfalign needs Kubernetes 1.33"
    )
    if turn.condition("Accepted", "False", "UnsupportedKubernetes", message):
        turn.warn("UnsupportedKubernetes", message)
    turn.delete(workload)
    turn.step(step, state="Failed", workload=None)
    fail(turn, "WorkloadRejected", message)  # the next attempt would come back the same
    return True


def _complete(turn: Turn, step: StepStatus, workload: WorkloadView) -> bool:
    """Success is a finished workload and a result; a lost termination message is read again from the storage."""
    body = termination_of(turn.observed.pods)
    if body is not None:
        try:
            succeed(turn, step, body, workload)
            return False
        except (ValueError, KeyError, TypeError) as error:
            said = f"the summary of {workload.name} is not one of step {step.name}: {error}"
            lose(turn, step, Ending("ResultMissing", said))
            return False
    if step.collecting or step.kind == "accept":
        said = f"{workload.kind} {workload.name} ended well, and its result is nowhere"
        lose(turn, step, Ending("ResultMissing", said))
        return False
    if not planned(turn):
        collect(turn, step)
    return True


def _kept_alive(turn: Turn, step: StepStatus, workload: WorkloadView) -> bool:
    """The step has ended and its pod has not: what the step says counts, and the workload goes."""
    turn.delete(workload)
    if any(pod.exit_code not in (None, 0) for pod in turn.observed.pods):
        _failed(turn, step, workload)
        return False
    return _complete(turn, step, workload)


def _failed(turn: Turn, step: StepStatus, workload: WorkloadView) -> None:
    ending = _excused(step, failure_of(workload, turn.observed.pods))
    if step.collecting and not ending.final and ending.counted:
        ending = Ending(
            "ResultMissing", f"no result can be read: {ending.message}", True, ending.exit_code, ending.node
        )
    lose(turn, step, ending)


def _excused(step: StepStatus, ending: Ending) -> Ending:
    """The ending; of an attempt one of whose pods was seen to be deleted, before it could be replaced, that."""
    if step.deleted_pod and ending.counted and not ending.final:
        return by_hand(step.deleted_pod)
    if ending.vanished and _in_a_row(step, "Deleted") >= MOST_VANISHED:
        return replace(ending, counted=True)  # something here sweeps up pods, and hides how they end
    return ending


def _in_a_row(step: StepStatus, reason: str) -> int:
    """How many of the newest attempts were lost for this reason."""
    return len(list(takewhile(lambda lost: lost.reason == reason, reversed(step.lost_attempts))))


def _under_way(turn: Turn, step: StepStatus, workload: WorkloadView) -> bool:
    if workload.suspended:
        _queued(turn, step, workload)
        return True
    ending = (
        _node_lost(turn)
        or head_lost(workload, turn.observed.pods)
        or never_ran(turn, step, workload)
        or _stalled(turn, step)
    )
    if ending is not None:
        turn.delete(workload)
        lose(turn, step, _excused(step, ending) if workload.head_is_silent else ending)
        return False
    _show(turn, turn.status.step(step.name) or step, workload)
    return True


def _queued(turn: Turn, step: StepStatus, workload: WorkloadView) -> None:
    """Kueue holds the Job: never a failure, whether it was not admitted yet or has been evicted."""
    says = turn.observed.kueue_says
    if says == "":
        says = (
            f"Kueue has made no Workload for Job {workload.name}; does Kueue run, does it manage this namespace, and is "
            "there a LocalQueue of that name?"
        )
    message = f"{step.name} waits for its queue" + (f": {says}" if says else "")
    turn.step(step, state="Queued", reason="Queued", message=message, running_since=None)
    turn.condition("Progressing", "False", "Queued", message)
    waited = (turn.observed.now - workload.created).total_seconds()
    turn.look_again(ASK_KUEUE_SECONDS if waited < ASK_KUEUE_SECONDS else min(waited, MOST_WAITING_SECONDS))


def _node_lost(turn: Turn) -> Ending | None:
    pod = lost_pod(turn.observed)
    if pod is None:
        return None
    message = (
        f"node {pod.node} is lost: pod {pod.name} should have gone by {time_text(pod.deleted or turn.observed.now)}"
    )
    return Ending("NodeLost", message, False, None, pod.node)


def _stalled(turn: Turn, step: StepStatus) -> Ending | None:
    assert turn.spec is not None
    limit = turn.spec.failure_policy.progress_deadline_seconds
    progress, now = turn.observed.progress, turn.observed.now
    if limit == 0 or progress is None or (now - progress.read_at).total_seconds() > FRESH_SECONDS:
        return None
    still = (now - progress.changed_at).total_seconds()
    if still <= limit:
        turn.look_again(limit - still)
        return None
    message = (
        f"{step.name} stands at {progress.done} of {progress.total} {progress.unit} ({progress.phase}) for {still:.0f} s "
        f"(progressDeadlineSeconds: {limit})"
    )
    return Ending("Stalled", message)


def _show(turn: Turn, step: StepStatus, workload: WorkloadView) -> None:
    """What a person sees of an attempt that is under way."""
    observed = turn.observed
    trouble = trouble_of(workload, observed)
    running = workload.ready >= workload.size
    started = running or workload.ready > 0 or step.running_since is not None
    deleted = deleted_pod(observed.pods)
    step = turn.step(
        step,
        deleted_pod=deleted.name if deleted is not None else None if running else step.deleted_pod,
        state="Running",
        running_since=(step.running_since or time_text(observed.now)) if running else step.running_since,
        progress=_progress(turn) or step.progress,
    )
    if trouble is not None:
        turn.step(step, reason=trouble.reason, message=trouble.message[:1024])
        if step.kind == "accept" and trouble.reason in ("SecretNotFound", "ClaimNotFound"):
            turn.condition("Accepted", "False", trouble.reason, trouble.message)
        if turn.condition("Progressing", "False", _progressing(trouble.reason), trouble.message):
            turn.warn(trouble.reason, trouble.message)
        turn.look_again(_waiting_seconds(turn, step, workload))
        return
    reason = "StepRunning" if started else "StepStarting"
    message = (
        _words(turn, step, workload) if started else starting(step.name, step.attempts, workload.ready, workload.size)
    )
    turn.step(step, reason=reason, message=message)
    turn.condition("Progressing", "True", reason, message)
    if step.kind == "accept" and turn.status.condition("Accepted") is not None and not turn.status.is_true("Accepted"):
        turn.condition("Accepted", "Unknown", "Pending", "the run is being checked")
    turn.look_again(RUNNING_SECONDS if running else _waiting_seconds(turn, step, workload))
    if started and turn.effective is not None and step.kind != "accept" and not step.collecting:
        turn.poll(turn.render.progress_url(turn.effective, workload))


def _waiting_seconds(turn: Turn, step: StepStatus, workload: WorkloadView) -> float:
    """As long as it has waited already; longer from the start where the attempts before it waited in vain."""
    waited = (turn.observed.now - (workload.started or workload.created)).total_seconds()
    first = min(STARTING_SECONDS * 2.0 ** _in_a_row(step, "GangNotPlaced"), MOST_FIRST_SECONDS)
    return min(max(waited, first), MOST_WAITING_SECONDS)


def _progressing(reason: str) -> str:
    """Accepted's own reasons are no reasons of Progressing."""
    return {"SecretNotFound": "PodRejected", "ClaimNotFound": "StorageUnavailable"}.get(reason, reason)


def _progress(turn: Turn) -> StepProgress | None:
    view = turn.observed.progress
    if view is None:
        return None
    per_second = None if view.per_second is None else f"{view.per_second:.4g}"
    return StepProgress(
        done=view.done, total=view.total, unit=view.unit, per_second=per_second, update_time=time_text(view.read_at)
    )


def _words(turn: Turn, step: StepStatus, workload: WorkloadView) -> str:
    view = turn.observed.progress
    if view is None:
        ready = f"{step.name} runs: {workload.ready} of {workload.size} pods are ready"
        if turn.observed.progress_unread:
            return ready + UNREAD
        # Whoever begins to lead has asked no pod yet: what was said stands.
        told = step.message == ready + UNREAD or step.message.startswith(f"{step.name}: ")
        return step.message if told and step.reason == "StepRunning" else ready
    age = (turn.observed.now - view.read_at).total_seconds()
    old = f", as of {age:.0f} s ago: its pod does not answer" if age > FRESH_SECONDS else ""
    return f"{step.name}: {view.phase} {view.done:,} of {view.total:,} {view.unit}{old}"


def next_attempt(turn: Turn) -> bool:
    """Make the attempt that is due; True when the run waits for it."""
    step = current_step(turn)
    if step is None:
        odd = ", ".join(each.name for each in turn.status.steps if each.reason == SECOND_LOOK)
        skipped = sum(each.state == "Skipped" for each in turn.status.steps)
        words = f"{len(turn.status.steps) - 1 - skipped} steps are done"
        words += f", {skipped} were left out as the loop ended early" if skipped else ""
        words += f"; worth a second look: {odd}" if odd else ""
        turn.condition("Complete", "True", "AllStepsDone", words)
        turn.condition("Progressing", "False", "Finished", "all steps are done")
        plan = turn.status.plan and turn.status.plan.model_copy(update={"content": None})
        turn.update(completion_time=time_text(turn.observed.now), plan=plan)
        turn.tell("Completed", "all steps are done")
        return True
    if turn.status.is_true("Failed") or step.state == "Failed":
        return True
    due = parse_time(step.next_attempt_time)
    left = (due - turn.observed.now).total_seconds() if due is not None else 0.0
    if 0 < left <= longest_backoff(turn):
        turn.look_again(left)
        return True
    if words := left_behind(turn):
        turn.step(step, message=words)
        turn.condition("Progressing", "True", "StepRetrying", f"{step.name} begins again when that is over: {words}")
        return True
    made = {(step.name, step.attempts + 1)}  # perhaps made already: making it again finds it
    if any(workload.phase == "Active" and (workload.step, workload.attempt) not in made for workload in turn.ours):
        turn.look_again(STARTING_SECONDS)  # one workload at a time: what the last attempt had is not free yet
        return True
    begin(turn, step)
    turn.look_again(STARTING_SECONDS)
    return True
