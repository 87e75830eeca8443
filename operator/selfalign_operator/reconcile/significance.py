"""Which changes of a status are worth a write at once, and which can wait for the next one (30 s at most)."""

from __future__ import annotations

from typing import Any

from selfalign_api.status import Condition, Status, StepStatus

__all__ = ["significant"]

STARTING = ("StepStarting", "StepRunning")  # a step that starts will run; that it does can wait


def significant(status: Status) -> Any:
    """The status without what moves while nothing happens: progress, running and waiting times, messages beside their reasons."""
    return status.model_copy(
        update={
            "progress": None,
            "active_since": None,
            "active_seconds": 0,
            "steps": tuple(_step(step) for step in status.steps),
            "conditions": tuple(_condition(condition) for condition in status.conditions),
        }
    )


def _step(step: StepStatus) -> StepStatus:
    reason = "StepRunning" if step.reason in STARTING else step.reason
    return step.model_copy(
        update={"progress": None, "running_since": None, "waiting_since": None, "message": "", "reason": reason}
    )


def _condition(condition: Condition) -> Condition:
    reason = "StepRunning" if condition.reason in STARTING else condition.reason
    return condition.model_copy(update={"message": "", "reason": reason})
