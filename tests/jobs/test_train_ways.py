"""Three optimiser steps end in the same weights whichever way they are computed: packed or padded, any ranks, stage, budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import trainings
from safetensors.torch import load_file

from selfalign_api.training_values import Lora, Loss, Optimizer
from selfalign_jobs.places.store import Manifest
from selfalign_jobs.train import program

pytestmark = pytest.mark.heavy
# With less of Adam's ε a gradient that is only rounding would be a step of its own.
ADAM = Optimizer(epsilon=1e-4)
SETTINGS = {
    "global_batch_size": 12,
    "epochs": 1,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.0,
    "seed": 5,
    "optimizer": ADAM,
}
TWO = {"nodes": 2, "micro_batch_tokens": 200}  # two or three micro batches a step


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    """Two batches of twelve pairs, and a last one of seven."""
    return trainings.pairs(31)


def trained(
    folder: Path, pairs: pa.Table, *, settings: dict[str, Any] | None = None, **means: Any
) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """The manifest and the published weights."""
    plan, step = trainings.training(loss=Loss(type="dpo", beta=0.5), settings=SETTINGS | (settings or {}))
    context = trainings.context(plan, folder, pairs, **means)
    manifest = program.train(context, step)
    assert context.folder.local is not None
    return manifest, load_file(context.folder.local / "model" / "model.safetensors")


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a model that the packed attention does not know."""
    monkeypatch.setattr(program, "packs", lambda _: False)


@pytest.fixture(scope="module")
def one_rank_padded(tmp_path_factory: pytest.TempPathFactory, pairs: pa.Table) -> dict[str, torch.Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "packs", lambda _: False)
        manifest, weights = trained(tmp_path_factory.mktemp("one"), pairs)
    assert manifest.result["attention"] == "padded sdpa float32"
    assert (manifest.result["steps"], manifest.tokens["train"]) == (3, tokens(pairs))
    return weights


def tokens(pairs: pa.Table) -> int:
    return sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in pairs.to_pylist())


@pytest.mark.parametrize(
    "means",
    [
        {},
        {"micro_batch_tokens": 150, "activation_checkpointing": "Full"},
        TWO | {"zero_stage": 1},
        TWO,
        TWO | {"zero_stage": 3, "activation_checkpointing": "Full"},
    ],
    ids=["one rank", "small budget, checkpointing", "ZeRO-1", "ZeRO-2, which fits", "ZeRO-3, checkpointing"],
)
def test_packed_on_any_ranks_ends_where_padded_on_one_does(
    tmp_path: Path, pairs: pa.Table, one_rank_padded: dict[str, torch.Tensor], means: dict[str, Any]
) -> None:
    manifest, found = trained(tmp_path, pairs, **means)
    assert manifest.result["attention"] == "packed batched float32"
    assert manifest.result.get("zeroStage") == (means.get("zero_stage", 2) if "nodes" in means else None)
    assert manifest.tokens["train"] == tokens(pairs)
    for name, expected in one_rank_padded.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-5, msg=name)


@pytest.mark.usefixtures("padded")
def test_padded_under_zero_3_ends_there_too(
    tmp_path: Path, pairs: pa.Table, one_rank_padded: dict[str, torch.Tensor]
) -> None:
    _, found = trained(tmp_path, pairs, nodes=2, zero_stage=3, micro_batch_tokens=400)
    for name, expected in one_rank_padded.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("dora", "stage"), [(False, 3), (True, 3), (True, None)], ids=["LoRA, ZeRO-3", "DoRA, ZeRO-3", "DoRA"]
)
def test_adapters_end_in_the_same_weights_on_two_ranks(
    tmp_path: Path, pairs: pa.Table, dora: bool, stage: int | None
) -> None:
    settings = {"lora": Lora(rank=4, alpha=8, dora=dora)}
    _, expected = trained(tmp_path / "one", pairs, settings=settings)
    means = TWO | {"zero_stage": stage, "activation_checkpointing": "Full"}
    _, found = trained(tmp_path / "two", pairs, settings=settings, **means)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_bfloat16_under_zero_2_begins_as_its_reference_and_learns(tmp_path: Path, pairs: pa.Table) -> None:
    settings = {"precision": "bfloat16", "epochs": 4}
    manifest, weights = trained(tmp_path, pairs, settings=settings, zero_stage=2, **TWO)
    assert manifest.result["attention"] == "packed batched bfloat16"
    assert manifest.result["loss"] < 0.6
    stepped = [name for name, w in weights.items() if w.dtype == torch.float32 and not w.bfloat16().float().equal(w)]
    assert stepped  # a float32 model is published as its masters are, not rounded to what computed
