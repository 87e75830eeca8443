"""What the metrics say of one run, taken from its object when a watch brings it: a scrape reads no object again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from selfalign_operator.read import moment, text

__all__ = ["Summary", "summary_of"]

Json = Mapping[str, Any]
BOUNDS = ("value", "low", "high")  # of a check; the interval is a 95 % one
MAX_RESULTS = 32  # as many as a status may hold


@dataclass(frozen=True, slots=True)
class Summary:
    """A run as it was last seen. The status may be anything: what is not as the operator writes it is left out."""

    state: str
    recipe: str
    stage: str  # kind of the current step
    reason: str  # why it is in this state, in one word
    ended: float | None  # seconds since the epoch
    results: tuple[tuple[str, str, float], ...]  # check, bound, value


def summary_of(run: Json) -> Summary:
    """The summary of a SelfAlignmentRun."""
    status, spec = run.get("status"), run.get("spec")
    status = status if isinstance(status, dict) else {}
    ended = moment(status.get("completionTime"))
    return Summary(
        state=intern(text(status, "state") or "Pending"),
        recipe=intern(text(spec, "recipe") if isinstance(spec, dict) else ""),
        stage=intern(text(status, "stage")),
        reason=intern(_reason(status)),
        ended=None if ended is None else ended.timestamp(),
        results=tuple(_results(status)),
    )


def _reason(status: Json) -> str:
    """Of a failed run why its step failed, else that of the run's own condition."""
    for step in _objects(status, "steps"):
        if step.get("state") == "Failed":
            return text(step, "reason")
    conditions = {text(each, "type"): each for each in _objects(status, "conditions")}
    failed = conditions.get("Failed", {})
    return text(failed if failed.get("status") == "True" else conditions.get("Progressing", {}), "reason")


def _results(status: Json) -> Iterator[tuple[str, str, float]]:
    for result in _objects(status, "results")[:MAX_RESULTS]:
        for bound in BOUNDS:
            try:
                value = float(text(result, bound))
            except ValueError:
                continue
            if math.isfinite(value):
                yield text(result, "name"), bound, value


def _objects(parent: Json, field: str) -> list[dict[str, Any]]:
    found = parent.get(field)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
