"""What happens to a step: an attempt begins, is lost, or succeeds. Names of attempts are fixed, so none is made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from selfalign_api.outcome import unpack_steps
from selfalign_api.status import (
    MAX_LOST_ATTEMPTS,
    LostAttempt,
    PlanStatus,
    StepStatus,
    WorkloadRef,
)
from selfalign_operator.effective import Attempt
from selfalign_operator.reasons import EventReason
from selfalign_operator.reconcile.ending import GATE, Ending
from selfalign_operator.reconcile.plan import make_objects
from selfalign_operator.reconcile.results import checks_of, figures_of, model_of, notes_of, planned_steps, told
from selfalign_operator.reconcile.times import time_text
from selfalign_operator.reconcile.turn import Turn
from selfalign_operator.views import WorkloadView

__all__ = [
    "SECOND_LOOK",
    "active_workloads",
    "attempt_of",
    "begin",
    "collect",
    "current_step",
    "give_up",
    "longest_backoff",
    "lose",
    "remember",
    "starting",
    "succeed",
]

SECOND_LOOK: EventReason = "SecondLook"  # of a step that is done, and whose result is odd
MOST_CHANCE = 0.5  # of its backoff that a gang without room waits longer
ACCEPT_REASONS = ("InvalidSpec", "ModelNotFound", "DataNotFound", "StorageInUse")  # what the accept step says


def current_step(turn: Turn) -> StepStatus | None:
    """The first step of which something is left to be done; None when all are over."""
    return turn.status.current_step


def active_workloads(turn: Turn) -> list[WorkloadView]:
    """Those that still run, of attempts that the status knows."""
    known = {step.name: step.attempts for step in turn.status.steps}
    return [each for each in turn.ours if each.phase == "Active" and each.attempt <= known.get(each.step, 0)]


def attempt_of(step: StepStatus, number: int, *, collect: bool = False) -> Attempt:
    """That attempt of the step."""
    return Attempt(step=step.name, kind=step.kind, iteration=step.iteration, number=number, collect=collect)


def begin(turn: Turn, step: StepStatus) -> None:
    """Make the next attempt: its workload now, its name in the status after; a repeat of this meets AlreadyExists."""
    assert turn.effective is not None
    number = step.attempts + 1
    manifest = turn.render.workload(turn.effective, attempt_of(step, number))
    make_objects(turn)
    turn.create(manifest, workload_of=step.name)
    now = time_text(turn.observed.now)
    queued = manifest["spec"].get("suspend") is True  # for Kueue
    words = "" if queued else starting(step.name, number, 0, manifest["spec"].get("parallelism", 1))
    turn.step(
        step,
        state="Queued" if queued else "Running",
        reason="Queued" if queued else "StepStarting",
        message=words,
        attempts=number,
        start_time=step.start_time or now,
        deleted_pod=None,
        running_since=None,
        waiting_since=None,
        next_attempt_time=None,
        progress=None,
        collecting=False,
        workload=_reference(manifest),
    )
    turn.update(start_time=turn.status.start_time or now)
    if len(turn.status.steps) > 1 and not turn.status.is_true("Accepted"):  # a NameConflict that is over
        turn.condition("Accepted", "True", "Accepted", "what kept the run is gone")
    if queued:
        turn.condition("Progressing", "False", "Queued", f"{step.name} waits for its queue")
    else:
        turn.condition("Progressing", "True", "StepStarting", words)
    turn.tell("StepStarted", _starts(step.name, number))


def starting(step: str, attempt: int, ready: int, size: int) -> str:
    """What is said of an attempt while no pod of it runs, from its first moment on: waiting costs no other write."""
    return f"{_starts(step, attempt)}: {ready} of {size} pods run"


def _starts(step: str, attempt: int) -> str:
    return f"{step} starts" if attempt == 1 else f"{step} starts again, attempt {attempt}"


def collect(turn: Turn, step: StepStatus) -> None:
    """Its pods are gone, and the termination message with them: a small Job reads the manifest instead."""
    assert turn.effective is not None
    make_objects(turn)
    manifest = turn.render.workload(turn.effective, attempt_of(step, step.attempts, collect=True))
    turn.create(manifest, workload_of=step.name)
    turn.step(step, collecting=True, workload=_reference(manifest), message="its result is read from the storage")


def _reference(manifest: Mapping[str, Any]) -> WorkloadRef:
    """The workload by name; apply fills in the uid that the apiserver gives it."""
    name = manifest["metadata"]["name"]
    return WorkloadRef(api_version=manifest["apiVersion"], kind=manifest["kind"], name=name, uid="pending")


def succeed(turn: Turn, step: StepStatus, body: Mapping[str, Any], workload: WorkloadView) -> None:
    """The step is done, as its summary says. Raises ValueError for a summary that its program does not write."""
    if body.get("step") != step.name:
        raise ValueError(f"it speaks of step {body.get('step')}")
    result = body.get("result", {})
    notes = notes_of(result)
    done = turn.step(
        step,
        state="Reused" if body.get("reused") is True else "Succeeded",
        reason=SECOND_LOOK if notes else None,
        message=" ".join(notes),
        completion_time=time_text(turn.observed.now),
        digest=_word(body, "digest"),
        url=_folder_of(turn, step),
        result=figures_of(result),
        progress=None,
        running_since=None,
        next_attempt_time=None,
        collecting=False,
    )
    if step.kind == "accept":
        _accepted(turn, body)
    if step.kind == "evaluate":
        turn.update(results=checks_of(result) or turn.status.results)
    if turn.effective is not None and turn.effective.spec.workload_retention == "AfterStep":
        turn.delete(workload)
        turn.step(done, workload=None)
    _tell_success(turn, done, told(result))
    if notes:
        turn.warn(SECOND_LOOK, f"{step.name} deserves a second look: {done.message}")


def _folder_of(turn: Turn, step: StepStatus) -> str | None:
    if step.kind == "accept" or turn.effective is None or turn.plan_is_lost:
        return None
    return f"{turn.effective.storage}/iter-{step.iteration}/{step.name}"


def _word(body: Mapping[str, Any], field: str) -> str | None:
    """A text of a summary as the status may hold it."""
    value = body.get(field)
    return value[:256] if isinstance(value, str) and value else None


def _accepted(turn: Turn, body: Mapping[str, Any]) -> None:
    steps = planned_steps(unpack_steps(body["steps"]))
    accept = next(step for step in turn.status.steps if step.kind == "accept")
    assert turn.effective is not None
    plan = turn.status.plan or PlanStatus(config_map_name=turn.render.config_map_name(turn.effective))
    turn.update(
        steps=(accept, *steps),
        model=model_of(body),
        plan=plan.model_copy(update={field: _word(body, field) for field in ("digest", "version")}),
    )
    turn.condition("Accepted", "True", "Accepted", f"{len(steps)} steps are planned")


def _tell_success(turn: Turn, step: StepStatus, figures: str) -> None:
    if step.kind == "accept":
        turn.tell("Accepted", f"the run is as it must be; {len(turn.status.steps) - 1} steps are planned")
        return
    words = f"{step.name} is done" + (f" ({figures})" if figures else "")
    if step.state == "Reused":
        turn.tell("StepReused", f"{step.name} was found done in another run")
    elif all(other.is_over for other in turn.status.steps if other.iteration == step.iteration):
        turn.tell("IterationFinished", f"{words}: iteration {step.iteration} is finished")
    else:
        turn.tell("StepSucceeded", words)


def remember(turn: Turn, step: StepStatus, ending: Ending) -> StepStatus:
    """The newest attempt has ended without success."""
    lost = LostAttempt(
        number=step.attempts,
        reason=ending.reason,
        counted=ending.counted,
        exit_code=ending.exit_code,
        node=ending.node,
        message=ending.message[:1024],
        time=time_text(turn.observed.now),
    )
    return turn.step(
        step,
        state="Pending",
        reason=ending.reason,
        message=ending.message[:1024],
        failures=step.failures + (1 if ending.counted else 0),
        lost_attempts=(*step.lost_attempts, lost)[-MAX_LOST_ATTEMPTS:],
        workload=None,
        collecting=False,
        deleted_pod=None,
        running_since=None,
        waiting_since=None,
        progress=None,
    )


def lose(turn: Turn, step: StepStatus, ending: Ending) -> None:
    """The attempt did not succeed: remember it, and say when the next may begin, or give up."""
    step = remember(turn, step, ending)
    if ending.final or ending.spent or (ending.counted and step.failures > _policy(turn).max_retries_per_step):
        give_up(turn, step, ending)
        return
    if ending.reason == "Suspended":
        return
    wait = _backoff(turn, step, ending)
    due = turn.observed.now + timedelta(seconds=wait)
    again = turn.step(step, next_attempt_time=time_text(due))
    words = f"{step.name} attempt {step.attempts}: {ending.message}"
    turn.condition(
        "Progressing", "True", "StepRetrying", f"{words}; the next attempt is due at {again.next_attempt_time}"
    )
    turn.warn("StepRetrying", f"{words}; the next attempt begins in {wait:.0f} s")


def give_up(turn: Turn, step: StepStatus, ending: Ending) -> None:
    """No further attempt: the run fails, or is held for a person."""
    words = f"{step.name} attempt {step.attempts}: {ending.message}"
    turn.step(step, state="Failed")
    if step.kind == "accept" and ending.final:
        turn.condition(
            "Accepted", "False", ending.details if ending.details in ACCEPT_REASONS else "InvalidSpec", ending.message
        )
    if not ending.final and _policy(turn).after_retries == "Hold":
        message = (
            f"{words}; the run is held: write suspend: true, mend spec.compute, write suspend: false, "
            "or give the annotation selfalign.dev/retry a new value"
        )
        turn.condition("Progressing", "False", "Held", message)
        turn.warn("Held", message)
        return
    reason = GATE if ending.reason == GATE else "InvalidConfig" if ending.final else "RetriesExhausted"
    fail(turn, reason, words)


def fail(turn: Turn, reason: str, words: str) -> None:
    """The run ends without success; a new value of the retry annotation lets it go on where it stopped."""
    mend = "mend the cause, then give the annotation selfalign.dev/retry a new value"
    if reason == GATE:  # a result, which no other attempt changes
        mend = "report.html in the run's folder has the evidence; a run of another name goes on from it by storage.reuseFrom"
    turn.condition("Failed", "True", reason, f"{words}; {mend}")
    turn.condition("Progressing", "False", "Finished", words)
    turn.update(completion_time=time_text(turn.observed.now))
    turn.warn("Failed", words)


def longest_backoff(turn: Turn) -> float:
    """Seconds that a step waits at most between two attempts; one that is to wait longer was edited by hand."""
    return float(_policy(turn).max_backoff_seconds) * (1 + MOST_CHANCE)


def _policy(turn: Turn) -> Any:
    assert turn.spec is not None
    return turn.spec.failure_policy


def _backoff(turn: Turn, step: StepStatus, ending: Ending) -> float:
    """Seconds until the next attempt: doubling, bounded; a gang that found no room waits up to half longer, by chance.

    The chance is a hash: two half-placed gangs must not try at the same moments, and a decision is the same twice.
    """
    policy = _policy(turn)
    if ending.counted:
        times = step.failures
    else:  # uncounted losses in a row back off as well
        times = 0
        for lost in reversed(step.lost_attempts):
            if lost.counted:
                break
            times += 1
    wait = float(min(policy.backoff_seconds * 2 ** min(times - 1, 30), policy.max_backoff_seconds))
    if ending.reason == "GangNotPlaced":
        digest = hashlib.sha256(f"{turn.observed.run.uid}/{step.name}/{step.attempts}".encode()).digest()
        wait *= 1 + MOST_CHANCE * digest[0] / 255
    return wait
