"""Which round of a loop is the best by the values of a check. Pure, for whoever has read the values."""

from __future__ import annotations

from collections.abc import Sequence

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
