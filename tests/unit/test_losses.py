"""Losses against numpy written from the papers, in float64 to 1e-6."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.training_values import Loss
from selfalign_jobs.train.losses import LOSSES, PairLogProbs, PairLoss, bradley_terry, gap, sft

Arrays = dict[str, np.ndarray]


@st.composite
def batches(draw: st.DrawFn) -> Arrays:
    """Log-probabilities of 1–6 pairs: lengths of 1–50 tokens, 0.01–8 nats a token."""
    size = draw(st.integers(1, 6))
    column = lambda values: np.array(draw(st.lists(values, min_size=size, max_size=size)))  # noqa: E731
    found: Arrays = {}
    for name in ("chosen", "rejected"):
        found[f"{name}_length"] = column(st.integers(1, 50))
        for who in ("", "reference_"):
            found[who + name] = -found[f"{name}_length"] * column(st.floats(0.01, 8))
    return found


def ours(kind: str, arrays: Arrays, **constants: float) -> PairLoss:
    """Our loss in float64."""
    pair = PairLogProbs(**{name: torch.tensor(values, dtype=torch.float64) for name, values in arrays.items()})
    return LOSSES[kind](pair, Loss.model_validate({"type": kind, **constants}))


def same(found: PairLoss, loss: Any, chosen_rewards: Any, rejected_rewards: Any) -> None:
    """All three to 1e-6."""
    np.testing.assert_allclose(found.loss.numpy(), loss, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.chosen_rewards.numpy(), chosen_rewards, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.rejected_rewards.numpy(), rejected_rewards, rtol=1e-6, atol=1e-6)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """log σ(x) = −log(1 + e^−x), without overflow."""
    return -np.logaddexp(0, -x)


def log_ratios(a: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """log π/π_ref of chosen and rejected."""
    return a["chosen"] - a["reference_chosen"], a["rejected"] - a["reference_rejected"]


BETA = st.floats(0.01, 10)
SMOOTHING = st.floats(0, 0.49)


@given(batches(), BETA, SMOOTHING)
def test_dpo_is_equation_7_with_cdpos_label_noise(a: Arrays, beta: float, epsilon: float) -> None:
    win, lose = log_ratios(a)
    logits = beta * (win - lose)
    loss = -(1 - epsilon) * log_sigmoid(logits) - epsilon * log_sigmoid(-logits)
    same(ours("dpo", a, beta=beta, label_smoothing=epsilon), loss, beta * win, beta * lose)


@given(batches(), BETA, SMOOTHING)
def test_ipo_is_equation_17_of_sums(a: Arrays, beta: float, epsilon: float) -> None:
    win, lose = log_ratios(a)
    h = win - lose
    loss = (1 - epsilon) * (h - 1 / (2 * beta)) ** 2 + epsilon * (h + 1 / (2 * beta)) ** 2
    same(ours("ipo", a, beta=beta, label_smoothing=epsilon), loss, beta * win, beta * lose)


@given(batches(), BETA)
def test_hinge_is_spins_with_the_hinge(a: Arrays, beta: float) -> None:
    win, lose = log_ratios(a)
    same(ours("hinge", a, beta=beta), np.maximum(0, 1 - beta * (win - lose)), beta * win, beta * lose)


@given(batches(), BETA, st.floats(0, 5))
def test_simpo_is_equation_6_with_the_plain_margin(a: Arrays, beta: float, gamma: float) -> None:
    win, lose = (beta * a[name] / a[f"{name}_length"] for name in ("chosen", "rejected"))
    same(ours("simpo", a, beta=beta, gamma=gamma), -log_sigmoid(win - lose - gamma), win, lose)


@given(batches(), BETA)
def test_orpo_is_equations_6_and_7_over_the_response(a: Arrays, beta: float) -> None:
    win, lose = (a[name] / a[f"{name}_length"] for name in ("chosen", "rejected"))
    log_odds = np.log(np.exp(win) / (1 - np.exp(win))) - np.log(np.exp(lose) / (1 - np.exp(lose)))
    same(ours("orpo", a, beta=beta), -win - beta * log_sigmoid(log_odds), beta * win, beta * lose)


def test_orpo_stays_finite_when_an_answer_is_certain() -> None:
    zero, one = torch.zeros(1, requires_grad=True), torch.ones(1)
    result = LOSSES["orpo"](PairLogProbs(zero, -one, one, one), Loss(type="orpo", beta=0.1))
    result.loss.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(result.loss).all()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


@given(batches(), st.sampled_from(sorted(LOSSES)))
def test_rewards_carry_no_gradient_and_losses_do(a: Arrays, kind: str) -> None:
    kept = {"kept": a["chosen"], "reference_kept": a["reference_chosen"]}
    leaves = {name: torch.tensor(values, dtype=torch.float64) for name, values in (a | kept).items()}
    leaves["chosen"].requires_grad_()
    result = LOSSES[kind](PairLogProbs(**leaves), Loss(type=kind, beta=0.1))  # type: ignore[arg-type]
    assert result.loss.requires_grad
    assert not result.chosen_rewards.requires_grad
    assert not result.rejected_rewards.requires_grad


@pytest.mark.parametrize("kind", ["dpo", "ipo", "hinge", "selm"])
def test_a_loss_with_a_reference_refuses_to_do_without(kind: str) -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="reference"):
        LOSSES[kind](PairLogProbs(-one, -one, one, one), Loss(type=kind))  # type: ignore[arg-type]


@given(batches(), BETA, st.floats(0, 1), st.data())
def test_selm_is_dpo_and_the_kept_answers_log_ratio_and_without_one_dpo(
    a: Arrays, beta: float, alpha: float, data: st.DataObject
) -> None:
    size = len(a["chosen"])
    there = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    nats = st.lists(st.floats(-400, -0.01), min_size=size, max_size=size)
    kept, reference_kept = (np.where(there, data.draw(nats), 0.0) for _ in range(2))
    win, lose = log_ratios(a)
    loss = -log_sigmoid(beta * (win - lose)) + np.where(there, alpha * beta * (kept - reference_kept), 0.0)
    found = ours("selm", a | {"kept": kept, "reference_kept": reference_kept}, beta=beta, alpha=alpha)
    same(found, loss, beta * win, beta * lose)


REWARDS = st.integers(1, 6).flatmap(
    lambda rows: st.lists(st.lists(st.floats(-30, 30), min_size=4, max_size=4), min_size=rows, max_size=rows)
)


@given(REWARDS)
def test_bradley_terry_is_minus_log_sigmoid_of_the_difference(rows: list[list[float]]) -> None:
    r = np.array(rows)[:, :2]
    found = bradley_terry(torch.tensor(r, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), -log_sigmoid(r[:, 0] - r[:, 1]), rtol=1e-6, atol=1e-6)


@given(REWARDS)
def test_gap_is_pits_five_orders(rows: list[list[float]]) -> None:
    better, winners, losers, worse = np.array(rows).T  # gap(w, l), gap(w, w), gap(l, l), gap(l, w)
    orders = (better, winners), (better, losers), (better, worse), (winners, worse), (losers, worse)
    expected = -sum(log_sigmoid(first - second) for first, second in orders)
    np.testing.assert_allclose(gap(torch.tensor(rows, dtype=torch.float64)).numpy(), expected, rtol=1e-6, atol=1e-6)


@given(st.lists(st.lists(st.floats(-8, -0.01), min_size=1, max_size=9), min_size=1, max_size=6))
def test_sft_over_the_targets_of_a_batch_is_their_mean_and_not_the_mean_of_answers(rows: list[list[float]]) -> None:
    sums = torch.tensor([[sum(row)] for row in rows], dtype=torch.float64)
    targets = [value for row in rows for value in row]
    np.testing.assert_allclose(float(sft(sums).sum()) / len(targets), -np.mean(targets), rtol=1e-6, atol=1e-6)
