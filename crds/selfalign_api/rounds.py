"""Which round of a loop is the best by the values of a check, and when the loop ends early. Pure, for whoever has the values."""

from __future__ import annotations

from collections.abc import Sequence

VALUE = "selectBy"  # the figure of an evaluation's summary that has the value of its round
ROUNDING = 1e-6  # figures are kept to six digits: a difference as small is none


def best_round(values: Sequence[float]) -> int:
    """The number, from 1, of the round with the highest value; of equal ones the earlier. ValueError without rounds."""
    if not values:
        raise ValueError("no round has a value")
    best = 0
    for place, value in enumerate(values):
        if value > values[best] + ROUNDING:
            best = place
    return best + 1


def ends_after(values: Sequence[float], worse: int) -> int | None:
    """The round after which a loop ends early: `worse` in a row up to it brought no better value. None: it goes on."""
    made = range(1, len(values) + 1)
    return next((number for number in made if number - best_round(values[:number]) >= worse), None)
