"""Vectors that are too like an earlier one: found by random hyperplanes, decided by their true cosine.

Charikar (2002): two vectors lie on the same side of a random hyperplane with probability 1 − angle/π. Those on the same side of
all hyperplanes of a band are candidates, and every candidate is measured (as near_duplicates.py has it for sets of words).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfalign_jobs.recipes.hashes import Numbers, mixed, rows_a_band

HYPERPLANES = 4096  # so many that few of a million vectors share a key by chance
AT_A_TIME = 8_192  # vectors
BYTES = 4  # of a key
ROUNDING = 1e-4  # of a cosine, by the order in which it is added up


class Vectors:
    """Vectors of length 1, a row each."""

    def __init__(self, rows: npt.NDArray[np.float32]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def similarities(self, number: int, others: Numbers) -> npt.NDArray[np.float64]:
        """The cosine of a vector with each of others."""
        found: npt.NDArray[np.float64] = (self._rows[others] @ self._rows[number]).astype(np.float64)
        return found

    def may_be_alike(self, one: Numbers, other: Numbers, threshold: float, /) -> npt.NDArray[np.bool_]:
        """Which of these pairs are: to measure one costs less than to remember it."""
        alike, least = np.empty(len(one), bool), threshold - ROUNDING
        for at in range(0, len(one), AT_A_TIME):
            here = slice(at, at + AT_A_TIME)
            alike[here] = np.einsum("ij,ij->i", self._rows[one[here]], self._rows[other[here]]) >= least
        return alike

    def keys(self, threshold: float) -> npt.NDArray[np.uint32]:
        """A key a band for each vector; the more bits it has, the fewer vectors share one."""
        same_side = 1 - np.arccos(threshold) / np.pi
        bits = min(rows_a_band(same_side, HYPERPLANES), 8 * BYTES)
        bands = HYPERPLANES // bits
        planes = _hyperplanes(self._rows.shape[1], bands * bits)
        keys = np.empty((bands, len(self)), np.uint32)
        for at in range(0, len(self), AT_A_TIME):
            above = (self._rows[at : at + AT_A_TIME] @ planes >= 0).reshape(-1, bands, bits)
            packed = np.packbits(above, axis=2)
            wide = np.zeros((*packed.shape[:2], BYTES), np.uint8)
            wide[:, :, : packed.shape[2]] = packed
            keys[:, at : at + AT_A_TIME] = wide.view(np.uint32)[:, :, 0].T
        return keys


def _hyperplanes(width: int, count: int) -> npt.NDArray[np.float32]:
    """Normals of ±1, fixed: what is dropped goes into the digests of what is made of the rest."""
    bits = mixed(np.arange(width * count, dtype=np.uint64)) & np.uint64(1)
    return np.where(bits, np.float32(1), np.float32(-1)).reshape(width, count)
