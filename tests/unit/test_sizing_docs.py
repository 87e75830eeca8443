"""The tables of docs/sizing.md are what the code computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sizing import CARDS, ENGINE_RESERVE, MODELS, SMALL_ENGINE_RESERVE, per_token_mib, sequences, training

PAGE = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text(encoding="utf-8")


def row(name: str, number: int) -> list[str]:
    """The cells of the model's row in the table of that number among those that have one."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in rows[number].strip("|").split("|")][1:]


@pytest.mark.parametrize("name", MODELS)
def test_what_an_engine_holds(name: str) -> None:
    shape = MODELS[name]
    held = [
        sequences(shape, CARDS[card], gpus, ENGINE_RESERVE)
        for card, gpus in (("24 GB", 1), ("24 GB", 2), ("80 GB", 1), ("80 GB", 2), ("80 GB", 4))
    ]
    assert row(name, 0) == [f"{shape.weights:.1f}", f"{shape.cache_kib:.0f}", *(str(number) for number in held)]


@pytest.mark.parametrize("name", MODELS)
def test_what_a_training_holds(name: str) -> None:
    shape = MODELS[name]
    states = [
        *(training(shape, 4, zero=stage) for stage in (1, 2, 3)),
        *(training(shape, gpus) for gpus in (8, 16)),
        training(shape, 4, offload="Optimizer"),
        training(shape, 4, lora=True),
        training(shape, 1, zero=2, offload="Optimizer", lora=True),
        per_token_mib(shape) * 4096 / 1024,
    ]
    assert row(name, 1) == [f"{number:.1f}" for number in states]


def test_what_a_small_engine_and_a_single_rank_hold() -> None:
    assert sequences(MODELS["Llama-3-8B"], CARDS["24 GB"], 1, SMALL_ENGINE_RESERVE) == 13
    assert "13 sequences of an 8B model" in PAGE
    assert f"({training(MODELS['Llama-3.2-1B'], 1):.1f} GiB; short pairs" in PAGE
