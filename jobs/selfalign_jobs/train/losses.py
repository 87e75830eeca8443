"""Losses: pure functions of summed log-probabilities and lengths, or of rewards, never of logits.

Notation: y_w and y_l are the chosen and the rejected response to the prompt x, log π(y|x) the sum of the log-probabilities
of the response's tokens (the end token included), |y| their number, and
h = [log π(y_w|x) − log π_ref(y_w|x)] − [log π(y_l|x) − log π_ref(y_l|x)].
All tensors are of shape (pairs,), floating, and in nats; each loss is per pair, its mean over the batch is minimised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from selfalign_api.training_values import Loss


@dataclass(frozen=True)
class PairLogProbs:
    """What a loss sees of a batch; the reference's are None for losses that have none."""

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    kept: Tensor | None = None  # SELM's third answer, the policy's own; 0 where there is none, under the reference too
    reference_kept: Tensor | None = None


@dataclass(frozen=True)
class PairLoss:
    """Loss and implicit rewards of each pair; the rewards carry no gradient."""

    loss: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    kept_rewards: Tensor | None = None  # SELM's, of its third answer


def dpo(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """DPO (arXiv 2305.18290, eq. 7): −log σ(β·h).

    With label smoothing ε (cDPO, https://ericmitchell.ai/cdpo.pdf, eq. 3): −(1−ε)·log σ(β·h) − ε·log σ(−β·h).
    Rewards (its eq. 5 without the partition function): β·[log π(y|x) − log π_ref(y|x)].
    """
    chosen, rejected = _log_ratios(pair)
    logits = loss.beta * (chosen - rejected)
    value = -(1 - loss.label_smoothing) * F.logsigmoid(logits) - loss.label_smoothing * F.logsigmoid(-logits)
    return _result(value, loss.beta * chosen, loss.beta * rejected)


def ipo(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """IPO (arXiv 2310.12036, eq. 17, its τ is β here): (h − 1/(2β))², of sums: not divided by length, as FSPO uses it.

    With label smoothing ε (ours: the expectation over labels that are wrong with probability ε):
    (1−ε)·(h − 1/(2β))² + ε·(h + 1/(2β))². Rewards as DPO's.
    """
    chosen, rejected = _log_ratios(pair)
    h, target = chosen - rejected, 1 / (2 * loss.beta)
    value = (1 - loss.label_smoothing) * (h - target) ** 2 + loss.label_smoothing * (h + target) ** 2
    return _result(value, loss.beta * chosen, loss.beta * rejected)


def hinge(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """Hinge (SPIN, arXiv 2401.01335, eq. 4.7 with ℓ(t) = max(0, 1−t); SLiC, arXiv 2305.10425): max(0, 1 − β·h).

    Rewards as DPO's.
    """
    chosen, rejected = _log_ratios(pair)
    value = torch.relu(1 - loss.beta * (chosen - rejected))
    return _result(value, loss.beta * chosen, loss.beta * rejected)


def selm(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """SELM (arXiv 2405.19332, eq. 4.2): −log σ(β·h) + α·β·[log π(y_k|x) − log π_ref(y_k|x)] of the kept answer y_k.

    y_k is what the policy answers itself, whatever its rank among the three. A pair without one counts with α 0.
    Rewards as DPO's.
    """
    result = dpo(pair, loss.model_copy(update={"label_smoothing": 0.0}))
    if pair.kept is None or pair.reference_kept is None:
        raise ValueError("selm needs the log-probabilities of the kept answers, of policy and reference")
    kept = loss.beta * (pair.kept - pair.reference_kept)
    return replace(result, loss=result.loss + loss.alpha * kept, kept_rewards=kept.detach())


def simpo(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """SimPO (arXiv 2405.14734, eq. 6): −log σ(β/|y_w|·log π(y_w|x) − β/|y_l|·log π(y_l|x) − γ); no reference.

    γ is the plain margin (SimPO's own repository takes γ/β). Rewards (its eq. 4): β/|y|·log π(y|x).
    """
    chosen = loss.beta * pair.chosen / pair.chosen_length
    rejected = loss.beta * pair.rejected / pair.rejected_length
    return _result(-F.logsigmoid(chosen - rejected - loss.gamma), chosen, rejected)


def orpo(pair: PairLogProbs, loss: Loss) -> PairLoss:
    """ORPO (arXiv 2403.07691, eq. 6 and 7, its λ is β here): NLL(y_w) − β·log σ(log odds(y_w) − log odds(y_l)).

    NLL(y) = −log π(y|x)/|y| over the response's tokens, and odds(y) = p/(1−p) of p = exp(log π(y|x)/|y|); no reference.
    Rewards: β·log π(y|x)/|y|.
    """
    chosen = pair.chosen / pair.chosen_length
    rejected = pair.rejected / pair.rejected_length
    value = -chosen - loss.beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return _result(value, loss.beta * chosen, loss.beta * rejected)


LOSSES: dict[str, Callable[[PairLogProbs, Loss], PairLoss]] = {
    "dpo": dpo,
    "ipo": ipo,
    "hinge": hinge,
    "simpo": simpo,
    "orpo": orpo,
    "selm": selm,
}


def sft(log_probs: Tensor) -> Tensor:
    """Supervised fine-tuning: −Σ log π(y|x) of each answer, (examples,); its mean is over the targets, not the answers."""
    return -log_probs[:, 0]


def bradley_terry(rewards: Tensor) -> Tensor:
    """A reward model's loss (Bradley-Terry, as in arXiv 2203.02155, eq. 1): −log σ(r(x, y_w) − r(x, y_l)).

    `rewards`: raw, of shape (pairs, 2): of chosen and rejected.
    """
    return -F.logsigmoid(rewards[:, 0] - rewards[:, 1])


# PIT's five orders, of the gaps that it reads: (w, l), (w, w), (l, l), (l, w).
GAP_ORDERS = ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))


def gap(rewards: Tensor) -> Tensor:
    """A gap model's loss (PIT, arXiv 2310.00898, eq. 2): −Σ log σ(gap_a − gap_b) over the five orders of a row.

    `rewards`, of shape (rows, 4), are the gaps of the answers (w, l), (w, w), (l, l), (l, w): how much better the first is.
    """
    first, second = (list(side) for side in zip(*GAP_ORDERS, strict=True))
    return -F.logsigmoid(rewards[:, first] - rewards[:, second]).sum(dim=1)


def _log_ratios(pair: PairLogProbs) -> tuple[Tensor, Tensor]:
    if pair.reference_chosen is None or pair.reference_rejected is None:
        raise ValueError("this loss needs the reference's log-probabilities")
    return pair.chosen - pair.reference_chosen, pair.rejected - pair.reference_rejected


def _log_odds(mean_log_prob: Tensor) -> Tensor:
    """log(p/(1−p)) of p = exp(mean_log_prob); finite at p = 1, where rounding may put a learnt answer."""
    highest = -torch.finfo(mean_log_prob.dtype).eps
    bounded = mean_log_prob.clamp(max=highest)
    return bounded - torch.log(-torch.expm1(bounded))


def _result(value: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor) -> PairLoss:
    return PairLoss(value, chosen_rewards.detach(), rejected_rewards.detach())
