"""Losses against TRL 1.16's own code, where it computes the same thing.

The same: dpo without label smoothing (`sigmoid`), hinge, simpo (its experimental CPO with loss `simpo`), orpo's odds term.
Not the same, on purpose: its `ipo` divides each log-ratio by the length (equal when all lengths are 1); its `sigmoid`
ignores label smoothing; its ORPO takes the NLL over prompt and answer, ours over the answer, so only the odds term is
compared (in float32, as TRL casts it).
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from selfalign_api.training_values import Loss
from selfalign_jobs.train.losses import LOSSES, PairLogProbs

pytestmark = pytest.mark.heavy
PAIRS, TOKENS = 3, 4


def identity(x: Any) -> Any:
    """What gathering means in one process."""
    return x


ACCELERATOR = SimpleNamespace(device="cpu", gather=identity, gather_for_metrics=identity)

tables = st.lists(
    st.lists(st.floats(-8, -0.01), min_size=TOKENS, max_size=TOKENS), min_size=2 * PAIRS, max_size=2 * PAIRS
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))
lengths = st.lists(st.integers(1, TOKENS), min_size=2 * PAIRS, max_size=2 * PAIRS).map(torch.tensor)
references = st.lists(st.floats(-30, -0.1), min_size=2 * PAIRS, max_size=2 * PAIRS).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def trl_dpo(kind: str, log_probs: torch.Tensor, length: torch.Tensor, reference: torch.Tensor, beta: float) -> float:
    """`DPOTrainer._compute_loss` itself, on a model that returns these log-probabilities of the response's tokens."""
    shape = (2 * PAIRS, TOKENS)
    zeros, mask = torch.zeros(shape), torch.arange(TOKENS) < length[:, None]
    outputs = FusedCausalLMOutput(
        log_probs=log_probs * mask, entropy=zeros, mean_logits=zeros, is_top1=torch.zeros(shape, dtype=torch.bool)
    )
    trainer = SimpleNamespace(
        model=torch.nn.Module(),
        accelerator=ACCELERATOR,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        beta=beta,
        use_weighting=False,
        _tp_size=1,
        _total_train_tokens=0,
        _metrics={"train": defaultdict(list)},
    )
    completion = torch.cat([torch.zeros(2 * PAIRS, 1), mask], dim=1).long()
    inputs = {
        "input_ids": torch.zeros_like(completion),
        "attention_mask": torch.ones_like(completion),
        "completion_mask": completion,
        "ref_chosen_logps": reference[:PAIRS],
        "ref_rejected_logps": reference[PAIRS:],
    }
    return float(DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False))


def pair_of(log_probs: torch.Tensor, length: torch.Tensor, reference: torch.Tensor | None) -> PairLogProbs:
    """The same batch as our losses see it."""
    summed = (log_probs * (torch.arange(TOKENS) < length[:, None])).sum(dim=1)
    references = (None, None) if reference is None else reference.chunk(2)
    return PairLogProbs(*summed.chunk(2), *length.double().chunk(2), *references)


@settings(max_examples=50)
@given(tables, lengths, references, st.floats(0.05, 5), st.sampled_from([("dpo", "sigmoid"), ("hinge", "hinge")]))
def test_dpo_and_hinge_are_trls(
    log_probs: torch.Tensor, length: torch.Tensor, reference: torch.Tensor, beta: float, names: tuple[str, str]
) -> None:
    loss = LOSSES[names[0]](
        pair_of(log_probs, length, reference), Loss.model_validate({"type": names[0], "beta": beta})
    )
    theirs = trl_dpo(names[1], log_probs, length, reference, beta)
    np.testing.assert_allclose(float(loss.loss.mean()), theirs, rtol=1e-6, atol=1e-6)


@settings(max_examples=50)
@given(tables, references, st.floats(0.05, 5))
def test_ipo_is_trls_when_answers_have_one_token(log_probs: torch.Tensor, reference: torch.Tensor, beta: float) -> None:
    length = torch.ones(2 * PAIRS, dtype=torch.long)
    loss = LOSSES["ipo"](pair_of(log_probs, length, reference), Loss(type="ipo", beta=beta))
    theirs = trl_dpo("ipo", log_probs, length, reference, beta)
    np.testing.assert_allclose(float(loss.loss.mean()), theirs, rtol=1e-6, atol=1e-6)


def test_ipo_is_not_trls_when_answers_are_longer() -> None:
    log_probs = -torch.ones(2 * PAIRS, TOKENS, dtype=torch.float64)
    length, reference = torch.full((2 * PAIRS,), TOKENS), torch.arange(-6.0, 0.0, dtype=torch.float64)
    loss = LOSSES["ipo"](pair_of(log_probs, length, reference), Loss(type="ipo", beta=0.1))
    assert abs(float(loss.loss.mean()) - trl_dpo("ipo", log_probs, length, reference, 0.1)) > 0.1


@settings(max_examples=50)
@given(tables, lengths, st.floats(0.1, 10), st.floats(0, 5))
def test_simpo_is_trls_cpo_with_the_plain_margin(
    log_probs: torch.Tensor, length: torch.Tensor, beta: float, gamma: float
) -> None:
    pair = pair_of(log_probs, length, None)
    trainer = SimpleNamespace(
        alpha=0.0, loss_type="simpo", simpo_gamma=gamma, beta=beta, label_smoothing=0.0, accelerator=ACCELERATOR
    )
    means = pair.chosen / pair.chosen_length, pair.rejected / pair.rejected_length
    theirs, chosen, rejected = CPOTrainer.cpo_loss(trainer, *means)
    result = LOSSES["simpo"](pair, Loss(type="simpo", beta=beta, gamma=gamma))
    for found, expected in (
        (result.loss, theirs),
        (result.chosen_rewards, chosen),
        (result.rejected_rewards, rejected),
    ):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)


@settings(max_examples=50)
@given(tables, lengths, st.floats(0.05, 5))
def test_orpos_odds_term_is_trls(log_probs: torch.Tensor, length: torch.Tensor, beta: float) -> None:
    pair = pair_of(log_probs, length, None)
    trainer = SimpleNamespace(beta=beta, accelerator=ACCELERATOR)
    means = pair.chosen / pair.chosen_length, pair.rejected / pair.rejected_length
    theirs = ORPOTrainer.odds_ratio_loss(trainer, *means)[0]
    found = LOSSES["orpo"](pair, Loss(type="orpo", beta=beta))
    np.testing.assert_allclose((found.loss + means[0]).numpy(), -theirs.numpy(), rtol=1e-4, atol=1e-4)
