"""Fixed hashes, and how many of them make a band (Leskovec, Rajaraman, Ullman, ch. 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

RECALL = 0.99  # of pairs at the threshold; of those above it more


def rows_a_band(agree: float, hashes: int) -> int:
    """As many as leave `RECALL` of the pairs at the threshold, of which a hash agrees with that probability, a candidate.

    The more rows, the fewer others are candidates.
    """
    return max(rows for rows in range(1, hashes + 1) if recall(agree, rows, hashes) >= RECALL or rows == 1)


def recall(agree: float, rows: int, hashes: int) -> float:
    """The probability that two agree in all rows of a band."""
    return float(1 - (1 - agree**rows) ** (hashes // rows))


def mixed(values: Hashes) -> Hashes:
    """SplitMix64's finaliser: every bit of the value changes every bit of the hash."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
