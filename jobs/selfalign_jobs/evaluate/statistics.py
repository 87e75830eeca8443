"""The statistics of an evaluation: pure functions of answers and verdicts, every interval a 95 % one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from selfalign_api.plan_values import Json
from selfalign_jobs.recipes.answers import normalised

LEVEL = 0.95
RESAMPLES = 10_000
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; `n` is the number of prompts that it rests on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def figure(self) -> dict[str, Json]:
        """As a step's result has it: value, low, high, n."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


def wilson(successes: int, trials: int) -> Estimate:
    """Share of successes with the Wilson score interval, which holds near 0 and 1 where the normal one does not.

    Wilson (1927), JASA 22, 209-212; the form of Newcombe (1998), Statistics in Medicine 17, 857-872, method 3.
    Raises ValueError without trials, or for more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is no share")
    share = successes / trials
    spread = Z * (share * (1 - share) / trials + Z**2 / (4 * trials**2)) ** 0.5
    centre, scale = share + Z**2 / (2 * trials), 1 + Z**2 / trials
    # Rounding must not push an end past the share itself, which at 0 and 1 the interval touches.
    low, high = max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
    return Estimate(share, min(low, share), max(high, share), trials)


def bootstrap_mean(values: npt.ArrayLike, seed: int) -> Estimate:
    """Mean over prompts (one value each) with its percentile bootstrap interval, 10 000 resamples of prompts.

    Efron and Tibshirani (1993), ch. 13. A resample of n prompts is drawn as the multinomial counts of the distinct
    values: the same distribution as n prompts with replacement, without a matrix of 10 000 x n. Raises ValueError
    without values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("there is nothing to resample")
    distinct, counts = np.unique(sample, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(sample.size, counts / sample.size, size=RESAMPLES)
    means = draws @ distinct / sample.size
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sample.mean()), float(low), float(high), int(sample.size))


def paired_gain(before: npt.ArrayLike, after: npt.ArrayLike, seed: int) -> Estimate:
    """Mean of after - before over prompts; entry i of both belongs to the same prompt.

    Pairing takes the difficulty of the prompts out of the interval. Raises ValueError for lists of unequal length.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} prompts before and {second.size} after cannot be paired")
    return bootstrap_mean(second - first, seed)


def exact_match(answer: str, reference: str) -> bool:
    """Whether the answer is the reference, up to whitespace; case and punctuation count."""
    return normalised(answer) == normalised(reference)


def win_rate(p_first: Sequence[float | None], tie_margin: float, seed: int) -> Estimate:
    """Share of prompts on which the judge, over both orders, prefers the first answer; what decides nothing counts half.

    `p_first` is the mean probability over both orders that the first answer is better: a prompt within `tie_margin` of
    0.5 is a tie, None (no verdict could be read) counts as one. 0.5 is what a judge that sees no difference gives.
    """
    return bootstrap_mean([points(p, tie_margin) for p in p_first], seed)


def points(p_first: float | None, tie_margin: float) -> float:
    """What a verdict on the first answer counts: 1 won, 0 lost, a half for a tie and for none."""
    if p_first is None or abs(p_first - 0.5) <= tie_margin:
        return 0.5
    return 1.0 if p_first > 0.5 else 0.0
