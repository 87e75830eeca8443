"""Packed equals padded: log-probabilities a token, gradients, for each architecture that is trained packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import packed_models
import pytest
import torch
import torch.nn.functional as F

from selfalign_jobs.train import attention, oracle, scoring
from selfalign_jobs.train.batch import MicroBatch
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.scoring import answer_scores, target_scores
from selfalign_jobs.train.settings import PACKED_ARCHITECTURES, packs


def scores_and_gradients(model: Any, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of each target, sums of each answer, and gradients of a loss over the sums."""
    with torch.no_grad():
        tokens = target_scores(model, micro)
    sums = answer_scores(model, micro)
    F.softplus(-0.1 * (sums[:, 0] - sums[:, 1:].sum(dim=1))).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return tokens, sums.detach(), gradients


def assert_alike(model: Any, answers: int, multiple: int = 1) -> None:
    examples = packed_models.examples(answers)
    rows = np.arange(len(examples))
    own = model.config._attn_implementation
    tokens, sums, gradients = scores_and_gradients(model, pad(examples, rows, answers))
    model.set_attn_implementation(attention.NAME)
    found_tokens, found_sums, found = scores_and_gradients(model, pack(examples, rows, answers, multiple=multiple))
    model.set_attn_implementation(own)
    torch.testing.assert_close(found_tokens, tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_sums, sums, rtol=1e-5, atol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize("answers", [1, 2, 3])
@pytest.mark.parametrize("name", packed_models.CONFIGS)
def test_packed_scores_and_gradients_are_the_padded_ones(name: str, answers: int) -> None:
    assert_alike(packed_models.model(name), answers)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_they_are_with_activations_computed_again(name: str, reentrant: bool) -> None:
    model = packed_models.model(name)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    assert_alike(model, 2)


def test_they_are_when_the_sequence_is_filled_up_and_when_targets_are_scored_in_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert_alike(packed_models.model("llama"), 2, multiple=128)
    monkeypatch.setattr(scoring, "TILE", packed_models.SHAPE["vocab_size"] * 50)
    assert_alike(packed_models.model("gemma2"), 2)


def test_every_architecture_that_is_trained_packed_is_tried_here() -> None:
    assert {config.model_type for config in packed_models.CONFIGS.values()} == set(PACKED_ARCHITECTURES)
    assert all(packs(config.to_dict()) for config in packed_models.CONFIGS.values())


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama4", "layer_types": ["chunked_attention"]},
        {"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"]},
        {"model_type": "qwen3", "layer_types": ["full_attention", "chunked_attention"]},
        {"model_type": "gpt_oss", "layer_types": ["sliding_attention"]},
        {"model_type": "mamba"},
        {},
    ],
)
def test_any_other_model_is_not(config: dict[str, Any]) -> None:
    assert not packs(config)


def test_an_answer_that_is_not_there_takes_no_place_and_scores_nothing() -> None:
    model = packed_models.model("llama")
    (prompt, (first, second, _)), *_ = packed_models.examples(3)
    nothing = first[:0]
    for make in (pack, pad):
        if make is pack:
            model.set_attn_implementation(attention.NAME)
        with_gap = make([(prompt, [first, second, nothing])], np.array([0]), 3)
        without = make([(prompt, [first, second])], np.array([0]), 2)
        assert (with_gap.places, with_gap.tokens) == (without.places, without.tokens)
        found = answer_scores(model, with_gap)
        torch.testing.assert_close(found[:, :2], answer_scores(model, without))
        assert found[0, 2] == 0
        model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("make", [pack, pad])
def test_a_micro_batch_without_examples_runs_and_moves_nothing(make: Any) -> None:
    model = packed_models.model("llama")
    if make is pack:
        model.set_attn_implementation(attention.NAME)
    summed = answer_scores(model, make([], np.zeros(0, np.int64), 2))
    assert summed.shape == (0, 2)
    summed.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["llama", "qwen2-windows", "gemma2"])
def test_flex_attention_sees_what_each_sequence_alone_does(name: str) -> None:
    found = oracle.hold_to_oracle(packed_models.CONFIGS[name], "cpu", torch.float32, backend="flex")
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize(("alike", "longest"), [(16, 64), (64, 512), (1, 256), (32, 0)])
@pytest.mark.parametrize("name", ["llama", "qwen2-windows", "gemma2"])
def test_examples_in_calls_by_length_see_what_each_sequence_alone_does(
    monkeypatch: pytest.MonkeyPatch, name: str, alike: int, longest: int
) -> None:
    monkeypatch.setattr(attention, "ALIKE", alike)
    monkeypatch.setattr(attention, "LONGEST_IN_GROUP", longest)
    found = oracle.hold_to_oracle(packed_models.CONFIGS[name], "cpu", torch.float32, backend="batched")
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize("fault", ["later tokens", "the other answer", "another example", "windows by place", "no cap"])
def test_a_kernel_that_sees_anything_else_is_found_out(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def wrong(q: Any, k: Any, v: Any, packing: Any, scale: float, window: int | None, softcap: float | None) -> Any:
        place = torch.arange(q.shape[2])
        query, key = place[:, None], place[None]
        example, part, position = packing.example_of, packing.part_of, packing.position_of
        seen = (example[query] == example[key]) | (fault == "another example")
        seen &= (query >= key) | (fault == "later tokens")
        seen &= (part[key] == 0) | (part[key] == part[query]) | (fault == "the other answer")
        if window is not None:
            apart = query - key if fault == "windows by place" else position[query] - position[key]
            seen &= apart < window
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
        scores = scale * q @ k.transpose(2, 3)
        if softcap is not None and fault != "no cap":
            scores = softcap * torch.tanh(scores / softcap)
        return (scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(1, 2)

    monkeypatch.setitem(attention.BACKENDS, "wrong", wrong)
    with pytest.raises(RuntimeError, match="attention kernel wrong of this device is wrong"):
        oracle.hold_to_oracle(packed_models.CONFIGS["gemma2"], "cpu", torch.float32, backend="wrong")
