"""A loop that brings nothing better ends early (evaluation.stopAfterWorse), by the values that its evaluations told."""

from __future__ import annotations

import math
from collections.abc import Iterator

from selfalign_api.rounds import VALUE, ends_after
from selfalign_api.status import Status, StepStatus
from selfalign_operator.reconcile.turn import Turn

__all__ = ["ended_early"]


def ended_early(turn: Turn) -> bool:
    """Once enough iterations in a row brought no better value, those that follow are left out; the run goes on to publish."""
    assert turn.spec is not None
    worse = turn.spec.evaluation.stop_after_worse if turn.spec.evaluation is not None else None
    values = dict(_values(turn.status)) if worse is not None else {}
    number = ends_after(list(values.values()), worse) if worse is not None else None
    if number is None:
        return False
    end = list(values)[number - 1]
    left = [step for step in turn.status.steps if step.iteration > end and _can_be_left_out(step)]
    words = f"the loop has ended after iteration {end}: {worse} in a row brought no better value"
    for step in left:
        turn.step(step, state="Skipped", reason="EndedEarly", message=words)
    if left:
        turn.tell("EndedEarly", words)
    return False


def _can_be_left_out(step: StepStatus) -> bool:
    return step.kind != "publish" and step.state == "Pending" and not step.attempts


def _values(status: Status) -> Iterator[tuple[int, float]]:
    """The values of the iterations that are evaluated, up to the first that is not, or that told none."""
    for step in status.steps:
        if step.kind == "evaluate":
            value = _value(step)
            if value is None:
                return
            yield step.iteration, value


def _value(step: StepStatus) -> float | None:
    told = next((figure.value for figure in step.result if figure.name == VALUE), None)
    try:
        value = None if told is None else float(told)
    except ValueError:
        return None  # a status may be edited by hand
    return value if value is not None and math.isfinite(value) else None
