"""A card's peak by its name, and what a step computes."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from selfalign_jobs.train.flops import peak_flops, training_flops
from selfalign_jobs.train.program import line_of


@pytest.mark.parametrize(
    ("card", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA RTX A6000", 155),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA H200", 989),
        ("NVIDIA A1000", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_a_cards_peak_is_that_of_the_longest_name_in_its_own(card: str, teraflops: float | None) -> None:
    assert peak_flops(card) == (None if teraflops is None else teraflops * 1e12)


@pytest.mark.parametrize("tied", [False, True])
def test_a_place_costs_6_a_weight_and_a_target_6_a_weight_of_the_head(tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    body = sum(p.numel() for p in model.model.parameters()) - 100 * 8
    assert training_flops(model, 10, 3) == 6 * body * 10 + 6 * 100 * 8 * 3
    model.requires_grad_(False)
    assert training_flops(model, 10, 3) == 4 * body * 10 + 4 * 100 * 8 * 3


def test_a_step_is_a_line_with_what_there_is() -> None:
    row = {
        "step": 12.0, "loss": 0.5, "learning_rate": 5e-7, "gradient_norm": 1.5, "tokens_per_second": 11_200.4,
        "computed_tokens_per_second": 8_000.0,
    }  # fmt: skip
    assert line_of(row) == "step 12 | loss 0.5000 | lr 5.00e-07 | gradient 1.5 | 11,200 tokens/s (8,000 computed)"
    more = row | {"margin": 0.25, "accuracy": 0.75, "mfu": 0.4123}
    assert "loss 0.5000 | margin 0.2500 | accuracy 0.7500 | lr" in line_of(more)
    assert line_of(more).endswith("| MFU 41.2 %")
