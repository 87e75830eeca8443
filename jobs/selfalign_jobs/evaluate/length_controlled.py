"""The length-controlled win rate: what the win rate would be if both answers to each prompt were equally long.

The form of AlpacaEval 2.0 (Dubois et al. 2024, arXiv 2404.04475) without its term for a prompt's difficulty, which is known
of AlpacaEval's own prompts only: P(new wins) = σ(θ + φ · tanh(Δ / s)), where Δ is by how many characters the new answer is
longer, s the standard deviation of Δ over the prompts, φ what length is worth to the judge; the rate is σ(θ). A tie is half
a win and half a loss. It is fitted by maximum likelihood; a normal prior of scale 2 on φ alone keeps that finite where
length alone decides, and is worth a few prompts elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selfalign_jobs.evaluate.statistics import Estimate, Z

PRIOR = 2.0  # scale of the prior of φ: 1 multiplies the odds by 2.7 where an answer is much longer; judges have 1 or 2
STEPS = 100  # of Newton; a handful are enough
HALVINGS = 50

Floats = npt.NDArray[np.float64]


def length_controlled(points: npt.ArrayLike, lengths: npt.ArrayLike, others: npt.ArrayLike) -> Estimate:
    """The rate of wins (1, a half for a tie, 0) with the lengths of both answers to each prompt, in characters.

    The interval is that of θ by the sandwich variance, taken through σ. Where all are won (or lost) the rate is 1 (or 0).
    Raises ValueError without prompts, or for lists of unequal length.
    """
    won = np.asarray(points, dtype=np.float64)
    longer = np.asarray(lengths, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    if won.size == 0 or won.shape != longer.shape:
        raise ValueError(f"{won.size} verdicts and {longer.size} differences in length are no win rate")
    share = float(won.mean())
    if share in (0.0, 1.0):
        return Estimate(share, share, share, won.size)
    features = np.column_stack([np.ones_like(won), np.tanh(longer / _spread(longer))])
    weights = fitted(features, won)
    theta, deviation = float(weights[0]), _deviation(features, won, weights)
    low, value, high = (float(chance) for chance in _sigmoid(theta + deviation * np.array([-Z, 0.0, Z])))
    return Estimate(value, low, high, won.size)


def fitted(features: Floats, won: Floats) -> Floats:
    """θ and φ, by Newton's method; a step that loses likelihood is halved. The maximum is one, and finite."""
    share = won.mean()
    weights = np.array([np.log(share / (1 - share)), 0.0])
    for _ in range(STEPS):
        step = np.linalg.solve(
            _curvature(features, weights), _slope(features, won, weights).sum(axis=0) + _pull(weights)
        )
        size, here = 1.0, _likelihood(features, won, weights)
        while _likelihood(features, won, weights + size * step) < here and size > 2.0**-HALVINGS:
            size /= 2
        weights = weights + size * step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _spread(longer: Floats) -> float:
    """The standard deviation of the differences; where these are all the same, of which nothing can be told, any."""
    return float(longer.std(ddof=1)) or 1.0 if longer.size > 1 else 1.0


def _likelihood(features: Floats, won: Floats, weights: Floats) -> float:
    """The logarithm of the posterior, but for a constant."""
    odds = features @ weights
    return float(won @ odds - np.logaddexp(0, odds).sum() - (weights[1] / PRIOR) ** 2 / 2)


def _slope(features: Floats, won: Floats, weights: Floats) -> Floats:
    """What each prompt adds to the gradient."""
    slope: Floats = (won - _sigmoid(features @ weights))[:, None] * features
    return slope


def _pull(weights: Floats) -> Floats:
    """What the prior adds to it."""
    return np.array([0.0, -weights[1] / PRIOR**2])


def _curvature(features: Floats, weights: Floats) -> Floats:
    """Minus the second derivatives."""
    chance = _sigmoid(features @ weights)
    curvature: Floats = (features.T * (chance * (1 - chance))) @ features + np.diag([0.0, PRIOR**-2])
    return curvature


def _deviation(features: Floats, won: Floats, weights: Floats) -> float:
    """The standard deviation of θ: right for ties too, which a likelihood takes for two prompts of half a weight."""
    slope, inverse = _slope(features, won, weights), np.linalg.inv(_curvature(features, weights))
    return float(np.sqrt((inverse @ slope.T @ slope @ inverse)[0, 0]))


def _sigmoid(odds: Floats) -> Floats:
    chance: Floats = np.exp(-np.logaddexp(0, -odds))
    return chance
