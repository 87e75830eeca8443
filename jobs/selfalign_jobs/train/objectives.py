"""What a training minimises: the columns that it reads, what the model scores of them, and the loss of each example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from selfalign_api.training_values import Loss
from selfalign_jobs.train import losses
from selfalign_jobs.train.losses import LOSSES, PairLogProbs
from selfalign_jobs.train.settings import Reads


@dataclass(frozen=True)
class Scored:
    """A micro batch that the model has scored, (examples, answers) each."""

    scores: Tensor  # log-probabilities of answers, or rewards
    lengths: Tensor  # targets of each answer; 0: it is not there
    reference: Tensor | None  # the reference's log-probabilities


@dataclass(frozen=True)
class Outcome:
    """Loss and figures of each example, (examples,); figures carry no gradient."""

    loss: Tensor
    figures: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """One of the four kinds of training."""

    reads: Reads
    mean_over: Literal["examples", "targets"]  # of the global batch
    score: Callable[[Scored], Outcome]


def objective_of(loss: Loss) -> Objective:
    """The objective that a loss belongs to."""
    reads = Reads.of(loss.type)
    if loss.type == "sft":
        return Objective(reads, "targets", _targets)
    if loss.type == "bradley-terry":
        return Objective(reads, "examples", _rewards)
    if loss.type == "gap":
        return Objective(reads, "examples", _gaps)
    return Objective(reads, "examples", partial(_pairs, loss))


def _pairs(loss: Loss, scored: Scored) -> Outcome:
    sides: list[Tensor | None] = [None] * 3 if scored.reference is None else list(scored.reference.unbind(1))
    kept = scored.scores[:, 2] if scored.scores.shape[1] > 2 else None
    pairs = PairLogProbs(
        scored.scores[:, 0],
        scored.scores[:, 1],
        scored.lengths[:, 0],
        scored.lengths[:, 1],
        reference_chosen=sides[0],
        reference_rejected=sides[1],
        kept=kept,
        reference_kept=None if kept is None else sides[2],
    )
    result = LOSSES[loss.type](pairs, loss)
    figures = _ordered(result.chosen_rewards, result.rejected_rewards)
    return Outcome(
        result.loss, figures | ({} if result.kept_rewards is None else {"rewards_kept": result.kept_rewards})
    )


def _targets(scored: Scored) -> Outcome:
    return Outcome(losses.sft(scored.scores), {})


def _rewards(scored: Scored) -> Outcome:
    return Outcome(losses.bradley_terry(scored.scores), _ordered(*scored.scores.detach().unbind(1)))


def _gaps(scored: Scored) -> Outcome:
    gaps = scored.scores.detach()
    right = torch.stack([gaps[:, first] > gaps[:, second] for first, second in losses.GAP_ORDERS], dim=1)
    figures = _ordered(gaps[:, 0], gaps[:, 3]) | {"accuracy": right.float().mean(dim=1)}
    return Outcome(losses.gap(scored.scores), figures)


def _ordered(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    return {"rewards_chosen": chosen, "rewards_rejected": rejected, "accuracy": (chosen > rejected).float()}
