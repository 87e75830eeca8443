"""What a person changes of a run: suspended, resumed, tried again. Each says what will come of it, or why nothing would."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_operator.reconcile.times import time_text
from selfalign_operator.views import PROCEED_ANNOTATION, RETRY_ANNOTATION, RunView


@dataclass(frozen=True)
class Act:
    """A merge patch of the run, None where it is as wanted already; and the words for it."""

    patch: dict[str, Any] | None
    words: str


def suspend(run: RunView) -> Act:
    """ConfigError for a run that has ended."""
    _refuse_ended(run, "suspended")
    if run.spec.get("suspend") is True:
        return Act(None, "is suspended already" if run.status.is_true("Suspended") else "is being suspended already")
    return Act(
        {"spec": {"suspend": True}}, "is suspended: its pods finish what they write and go; what is durable stays"
    )


def resume(run: RunView) -> Act:
    """ConfigError for a run that has ended."""
    _refuse_ended(run, "resumed")
    if run.spec.get("suspend") is not True:
        return Act(None, "is not suspended")
    return Act({"spec": {"suspend": False}}, "goes on from what is durable")


def retry(run: RunView, now: datetime) -> Act:
    """ConfigError for a run that has not stopped: the annotation would be used up without a trace."""
    status = run.status
    if held_before(run) is not None:
        raise ConfigError.one("NAME", "waits before its next step; let it begin: kubectl selfalign proceed", run.name)
    if not (status.is_true("Failed") or status.state == "Held"):
        more = "it is done" if status.is_true("Complete") else "it goes on by itself"
        raise ConfigError.one(
            "NAME", f"is {status.state}: only a run that is Failed or Held is tried again; {more}", run.name
        )
    value = time_text(now)
    if value == run.annotations.get(RETRY_ANNOTATION):
        return Act(None, "was told so in this second")
    step = next((step.name for step in status.steps if step.state == "Failed"), None)
    return Act(
        {"metadata": {"annotations": {RETRY_ANNOTATION: value}}},
        f"goes on{f' with {step}' if step else ''}: its failures are forgotten, its attempts counted on",
    )


def proceed(run: RunView) -> Act:
    """ConfigError for a run that is not held before a step (spec.holdBefore)."""
    step = held_before(run)
    if step is None:
        raise ConfigError.one("NAME", f"is {run.status.state} and held before no step (spec.holdBefore)", run.name)
    if run.annotations.get(PROCEED_ANNOTATION) == step:
        return Act(None, f"was told to begin {step}")
    return Act({"metadata": {"annotations": {PROCEED_ANNOTATION: step}}}, f"goes on with {step}")


def held_before(run: RunView) -> str | None:
    """The step that waits for a person; None where none does."""
    progressing = run.status.condition("Progressing")
    if progressing is None or progressing.reason != "HeldBefore":
        return None
    step = run.status.current_step
    return None if step is None else step.name


def _refuse_ended(run: RunView, what: str) -> None:
    if run.status.has_ended:
        raise ConfigError.one("NAME", f"has ended ({run.status.state}) and cannot be {what}", run.name)
