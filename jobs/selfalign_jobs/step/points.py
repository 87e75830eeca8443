"""What trackers show of a step: curves of a training, figures of an evaluation, named as TRL and Hugging Face do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfalign_api.plan_values import Json
from selfalign_jobs.step.metrics import LogRow

CURVES = {  # column of a training's log -> name
    "loss": "train/loss",
    "rewards_chosen": "train/rewards/chosen",
    "rewards_rejected": "train/rewards/rejected",
    "rewards_kept": "train/rewards/kept",
    "margin": "train/rewards/margins",
    "accuracy": "train/rewards/accuracies",
    "learning_rate": "train/learning_rate",
    "gradient_norm": "train/grad_norm",
    "tokens_per_second": "train/tokens_per_second",
    "computed_tokens_per_second": "train/computed_tokens_per_second",
    "mfu": "train/mfu",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a curve."""

    name: str
    step: int  # of the optimiser; of an evaluation, the iteration
    value: float
    at: float  # seconds since the epoch


def of_row(row: Mapping[str, float | None], at: float) -> Iterator[Point]:
    """The points of an optimiser step; what it did not measure, or what is no number, is none."""
    for column, name in CURVES.items():
        value = row.get(column)
        if value is not None and math.isfinite(value):
            yield Point(name, int(row["step"] or 0), float(value), at)


def of_log(rows: list[LogRow], end: float) -> Iterator[Point]:
    """The points of a training's log whose last row was made at `end`: `seconds` count only what was spent on steps."""
    for row in rows:
        yield from of_row(row, end - (rows[-1]["seconds"] - row["seconds"]))


def of_checks(checks: Mapping[str, Json], iteration: int, at: float) -> Iterator[Point]:
    """The figures of an evaluation: each with the ends of its interval, where it has one, and what it rests on."""
    for name, figure in checks.items():
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"), ("n", "_n")):
            value = figure.get(part) if isinstance(figure, Mapping) else None
            if isinstance(value, int | float) and math.isfinite(value):
                yield Point(f"eval/{name}{suffix}", iteration, float(value), at)
