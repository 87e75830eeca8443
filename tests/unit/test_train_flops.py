"""A card's peak by its name, and what a step computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen3MoeConfig,
)

from selfalign_jobs.train.flops import PEAK_TERAFLOPS, Work, keys_seen, peak_flops
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.program import line_of

# As NVML and torch.cuda.get_device_name say them; None: a card without a figure of its own, or a part of one.
CARDS = {
    "NVIDIA A10": 125,
    "NVIDIA A10G": None,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-SXM4-80GB MIG 3g.40gb": None,
    "NVIDIA A100X": None,
    "NVIDIA A1000": None,
    "NVIDIA RTX A1000 Laptop GPU": None,
    "NVIDIA A30": 165,
    "NVIDIA A40": 149.7,
    "NVIDIA A800-SXM4-80GB": 312,
    "NVIDIA B200": 2250,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA GB200": 2500,
    "NVIDIA GB300": 2500,
    "NVIDIA GB10": None,
    "NVIDIA GH200 480GB": 989,
    "NVIDIA GH200 144G HBM3e": 989,
    "NVIDIA H100": 989,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H20": 148,
    "NVIDIA H20-3e": 148,
    "NVIDIA H200": 989,
    "NVIDIA H200 NVL": 835,
    "NVIDIA H800": 989,
    "NVIDIA H800 PCIe": 756,
    "NVIDIA L20": 119.5,
    "NVIDIA L4": 121,
    "NVIDIA L40": 181,
    "NVIDIA L40S": 362,
    "NVIDIA L40G": None,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA RTX 6000 Ada Generation": None,
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": None,
    "NVIDIA GeForce RTX 3090": 71,
    "NVIDIA GeForce RTX 3090 Ti": None,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 4090 D": None,
    "NVIDIA GeForce RTX 4090 Laptop GPU": None,
    "NVIDIA GeForce RTX 5090": 209.5,
    "NVIDIA GeForce RTX 5090 D": None,
    "GRID A100-10C": None,
    "NVIDIA A10-24Q": None,
    "Tesla T4": None,
    "Tesla V100-SXM2-16GB": None,
    "AMD Instinct MI300X": None,
}


@pytest.mark.parametrize("card", CARDS)
def test_a_cards_peak_is_that_of_the_longest_name_in_its_own(card: str) -> None:
    expected = CARDS[card]
    assert peak_flops(card) == (None if expected is None else expected * 1e12)


def test_each_card_of_the_table_is_among_them() -> None:
    assert {f"{peak}" for peak in PEAK_TERAFLOPS.values()} <= {f"{peak}" for peak in CARDS.values()}
    assert all(any(name in card.replace("-", " ") for card, peak in CARDS.items() if peak) for name in PEAK_TERAFLOPS)


SHAPE = {"vocab_size": 100, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
ATTENTION = 8 * 8 + 2 * 8 * 4 + 8 * 8  # queries, keys and values of one head, output
MODELS = {
    # config; weights that a place meets; FLOPs of a key that is seen in a layer, by 12; windows
    "Llama": (
        LlamaConfig(**SHAPE, intermediate_size=16, num_hidden_layers=3), 3 * (ATTENTION + 3 * 8 * 16), 2 * 4, (None,) * 3,
    ),
    "Llama, tied": (
        LlamaConfig(**SHAPE, intermediate_size=16, num_hidden_layers=1, tie_word_embeddings=True),
        ATTENTION + 3 * 8 * 16, 2 * 4, (None,),
    ),
    "Mistral": (
        MistralConfig(**SHAPE, intermediate_size=16, num_hidden_layers=2, sliding_window=5),
        2 * (ATTENTION + 3 * 8 * 16), 2 * 4, (5, 5),
    ),
    "Gemma-2, heads wider than the model": (
        Gemma2Config(**SHAPE | {"head_dim": 16}, intermediate_size=16, num_hidden_layers=2, sliding_window=5),
        2 * (2 * 8 * 32 + 2 * 8 * 16 + 3 * 8 * 16), 2 * 16, (5, None),
    ),
    "Qwen3-MoE, 2 of 4 experts": (
        Qwen3MoeConfig(
            **SHAPE, intermediate_size=16, num_hidden_layers=1, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=6
        ),
        ATTENTION + 8 * 4 + 2 * 3 * 8 * 6, 2 * 4, (None,),
    ),
    "Mixtral, 1 of 3 experts": (
        MixtralConfig(**SHAPE, intermediate_size=16, num_hidden_layers=1, num_local_experts=3, num_experts_per_tok=1),
        ATTENTION + 8 * 3 + 3 * 8 * 16, 2 * 4, (None,),
    ),
    "GPT-2": (
        GPT2Config(vocab_size=100, n_embd=8, n_head=2, n_layer=1, n_positions=32), 3 * 64 + 64 + 2 * 8 * 32, 8, (None,)
    ),
}  # fmt: skip


def model_of(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_multiplies_what_is_counted_by_hand(name: str) -> None:
    config, body, seen, windows = MODELS[name]
    model = model_of(config)
    assert Work.of(model) == Work(6 * body, 6 * 100 * 8, 12 * seen, windows)
    model.requires_grad_(False)
    assert Work.of(model) == Work(4 * body, 4 * 100 * 8, 12 * seen, windows)


def test_an_adapter_costs_6_a_weight_and_what_it_sits_on_4() -> None:
    config, body, _, _ = MODELS["Llama"]
    model = get_peft_model(model_of(config), LoraConfig(r=2, target_modules=["q_proj"]))
    assert Work.of(model).place == 4 * body + 6 * 3 * (8 * 2 + 2 * 8)


SEQUENCES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=4)


@given(SEQUENCES, st.none() | st.integers(1, 12))
def test_a_query_sees_itself_and_what_is_before_it_in_its_window(
    sequences: list[tuple[int, int]], window: int | None
) -> None:
    expected = sum(
        min(window or 99, before + place) for before, queries in sequences for place in range(1, queries + 1)
    )
    before, queries = np.array(sequences).T
    assert keys_seen(before, queries, window) == expected


def test_packed_counts_the_prompt_once_and_padded_counts_its_filling() -> None:
    """A prompt of 3 and answers of 2 and 1: 2 + 2 + 1 places, or two sequences of 5."""
    example = (np.arange(3), [np.arange(2), np.arange(1)])
    work = Work(place=1000, target=100, seen=1, windows=(None, 2))
    packed, padded = pack([example], np.arange(1), 2), pad([example], np.arange(1), 2)
    # All before: 1+2, 3+4 and 3; in a window of two: 1+2, 2+2 and 2.
    assert work.flops(packed) == 1000 * 5 + 100 * 3 + (3 + 7 + 3) + (3 + 4 + 2)
    assert work.flops(padded) == 1000 * 10 + 100 * 3 + 2 * 15 + 2 * 9


def test_a_step_is_a_line_with_what_there_is() -> None:
    row = {
        "step": 12.0, "loss": 0.5, "learning_rate": 5e-7, "gradient_norm": 1.5, "tokens": 22_400.8,
        "tokens_per_second": 11_200.4, "computed_tokens_per_second": 8_000.0, "seconds": 90.0,
    }  # fmt: skip
    speed = "11,200 tokens/s (8,000 computed)"
    assert line_of(row, 60) == f"step 12/60 | loss 0.5000 | lr 5.00e-07 | gradient 1.5 | 2.00 s | {speed} | 1.5 min"
    more = row | {"margin": 0.25, "accuracy": 0.75, "mfu": 0.4123}
    assert "loss 0.5000 | margin 0.2500 | accuracy 0.7500 | lr" in line_of(more, 60)
    assert line_of(more, 60).endswith("| MFU 41.2 % | 1.5 min")
