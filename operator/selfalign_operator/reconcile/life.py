"""How a run lives: it ends, is tried again by hand, suspended, resumed, held, and kept no longer than it may be."""

from __future__ import annotations

from selfalign_api.status import StepStatus
from selfalign_operator.reconcile.acceptance import readable
from selfalign_operator.reconcile.attempt import adopt, current_attempt
from selfalign_operator.reconcile.ending import Ending, termination_of
from selfalign_operator.reconcile.left_behind import LOOK_SECONDS, left_behind
from selfalign_operator.reconcile.startup import TO_BE_MENDED
from selfalign_operator.reconcile.steps import active_workloads, current_step, fail, give_up, lose
from selfalign_operator.reconcile.times import parse_time, seconds_since, time_text
from selfalign_operator.reconcile.turn import Turn
from selfalign_operator.views import PROCEED_ANNOTATION, RETRY_ANNOTATION

__all__ = ["account_time", "deadline", "finished", "held", "held_before", "retry", "suspended"]


def retry(turn: Turn) -> bool:
    """A new value of the retry annotation lets a Failed or Held run go on where it stopped, once."""
    value = turn.observed.run.annotations.get(RETRY_ANNOTATION)
    if value is None or value[:256] == turn.status.observed_retry:
        return False
    turn.update(observed_retry=value[:256])
    step = _stopped_step(turn)
    progressing = turn.status.condition("Progressing")
    turn.resolves_anew = progressing is not None and progressing.reason == "PlanLost"
    if step is None and not turn.status.is_true("Failed"):
        return False  # it acts on what has stopped; seen once, it is used up
    _go_on(turn, "the retry annotation has a new value")
    turn.look_again(0)  # of a stopped run not all was observed
    return True


def _stopped_step(turn: Turn) -> StepStatus | None:
    return next((step for step in turn.status.steps if step.state == "Failed"), None)


def _go_on(turn: Turn, why: str) -> None:
    """Forget the failures of the step that stopped; its attempts stay numbered on."""
    if (step := _stopped_step(turn)) is not None:
        turn.step(step, state="Pending", failures=0, next_attempt_time=None)
        if step.kind == "accept":
            turn.condition("Accepted", "Unknown", "Pending", "the run is checked again")
    if turn.status.is_true("Failed"):
        turn.condition("Failed", "False", "NotFailed")
        turn.update(completion_time=None, active_seconds=0)  # else its deadline would fail it again at once
    turn.condition("Progressing", "Unknown", "Pending", f"{why}: the run goes on")
    turn.tell("Resumed", f"{why}: the run goes on")


def finished(turn: Turn) -> bool:
    """A finished run changes no more; it is deleted when its time is over."""
    status = turn.status
    if not status.has_ended:
        return False
    for workload in active_workloads(turn):
        turn.delete(workload)
    ttl = _ttl(turn)
    done = parse_time(status.completion_time)
    if ttl is not None and done is not None:
        left = ttl - (turn.observed.now - done).total_seconds()
        if left <= 0:
            turn.delete_run()
        else:
            turn.look_again(left)
    return True


def _ttl(turn: Turn) -> int | None:
    """Read from the object itself: a finished run's spec need not be valid any more."""
    value = turn.observed.run.spec.get("ttlSecondsAfterFinished")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def suspended(turn: Turn) -> bool:
    """Suspended: the workload goes (its pods finish their append), the step waits; resumed, the next attempt begins."""
    if turn.observed.run.spec.get("suspend") is not True:
        if turn.status.is_true("Suspended"):
            turn.condition("Suspended", "False", "Resumed")
            turn.condition("Progressing", "Unknown", "Pending", "the run goes on")
            turn.tell("Resumed", "the run goes on")
        return False
    _take_what_is_done(turn)
    step = current_step(turn)
    if step is not None and step.workload is not None:
        lose(turn, step, Ending("Suspended", "the run was suspended", counted=False))
    elif step is not None and step.state == "Failed":  # held: suspending is how a person takes it in hand
        turn.step(step, state="Pending", failures=0, next_attempt_time=None)
    for workload in active_workloads(turn):
        turn.delete(workload)
    if _still_ends(turn):
        return True
    if turn.condition("Suspended", "True", "SpecSuspended", "write suspend: false to go on"):
        turn.tell("Suspended", "the run is suspended; what is durable stays, and write suspend: false to go on")
    turn.condition("Progressing", "False", "Suspended", "write suspend: false to go on")
    return True


def _still_ends(turn: Turn) -> bool:
    """Whether pods of the run still end: it is suspended when they are gone, and their GPUs are free."""
    if turn.status.is_true("Suspended"):
        return False
    words = left_behind(turn)
    if not words and active_workloads(turn):  # deleted in this turn, or their deletion is under way
        turn.look_again(LOOK_SECONDS)
        words = "its pods are told to end"
    if words:
        turn.condition("Suspended", "False", "Suspending", words)
        turn.condition("Progressing", "False", "Suspending", words)
    return bool(words)


def _take_what_is_done(turn: Turn) -> None:
    """A step that has just ended well counts, and what was made after it is known from now on, and goes.

    The suspension may have come between the creation of the next step's workload and the status that says so.
    """
    step = current_step(turn)
    if step is None or step.workload is None or termination_of(turn.observed.pods) is None:
        return
    done = any(w.name == step.workload.name and w.phase == "Complete" for w in turn.ours)
    if done and not readable(turn):
        current_attempt(turn)
        adopt(turn)


def held(turn: Turn) -> bool:
    """A step that was given up waits for a person; a status that does not say so any more, by hand, says it again."""
    step = _stopped_step(turn)
    if step is None:
        return False
    progressing = turn.status.condition("Progressing")
    if progressing is None or progressing.reason != "Held":
        give_up(turn, step, Ending(step.reason or "StepFailed", step.message or "it was given up"))
    return True


def held_before(turn: Turn) -> bool:
    """holdBefore: a step of that kind has no first attempt until the annotation names it."""
    assert turn.spec is not None
    step = current_step(turn)
    if step is None or step.kind != turn.spec.hold_before or step.attempts or step.state != "Pending":
        return False
    if turn.observed.run.annotations.get(PROCEED_ANNOTATION) == step.name:
        return False
    message = (
        f"{step.name} waits for a person (holdBefore: {step.kind}): look at report.html in the run's folder, then write the "
        f"annotation {PROCEED_ANNOTATION}={step.name}; or remove holdBefore"
    )
    if turn.condition("Progressing", "False", "HeldBefore", message):
        turn.tell("HeldBefore", message)
    return True


def account_time(turn: Turn) -> None:
    """Count the time in which the run is neither suspended, queued, held nor finished, from its first running pod on."""
    now, status = turn.observed.now, turn.status
    since = parse_time(status.active_since)
    active = _counts(turn)
    if active and since is None:
        turn.update(active_since=time_text(now))
    elif not active and since is not None:
        turn.update(active_seconds=status.active_seconds + int((now - since).total_seconds()), active_since=None)


def _counts(turn: Turn) -> bool:
    status = turn.status
    progressing = status.condition("Progressing")
    reason = progressing.reason if progressing else ""
    if status.has_ended or reason in ("Queued", "Suspended", "Suspending", "Held", "HeldBefore", "PlanLost"):
        return False
    if reason in TO_BE_MENDED:
        return True  # nobody but a person ends it
    ran_before = any(step.state in ("Succeeded", "Reused") or step.lost_attempts for step in status.steps)
    return (
        ran_before
        or any(pod.phase != "Pending" for pod in turn.observed.pods)
        or any(workload.ready for workload in turn.observed.workloads)
    )


def deadline(turn: Turn) -> bool:
    """activeDeadlineSeconds: over it, the run fails."""
    assert turn.spec is not None
    limit = turn.spec.active_deadline_seconds
    if limit is None:
        return False
    left = limit - turn.status.active_seconds - (seconds_since(turn.status.active_since, turn.observed.now) or 0.0)
    if left > 0:
        if turn.status.active_since is not None:
            turn.look_again(left)
        return False
    step = current_step(turn)
    if step is not None and step.workload is not None:
        turn.step(step, state="Failed", reason="DeadlineExceeded", workload=None)
    for workload in active_workloads(turn):
        turn.delete(workload)
    fail(turn, "DeadlineExceeded", f"the run was active for longer than activeDeadlineSeconds: {limit}")
    return True
