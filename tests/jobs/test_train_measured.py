"""A training whose micro batch is measured ends as one that was told it: the dummies leave nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import trainings
from safetensors.torch import load_file

from selfalign_api.plan import ModelRef
from selfalign_api.sources import ModelSource
from selfalign_api.training_values import Lora, Loss, Optimizer
from selfalign_jobs.machine import cpus_here
from selfalign_jobs.places.store import Manifest
from selfalign_jobs.train import launch, program
from selfalign_jobs.train.memory import Estimate
from selfalign_jobs.train.steps import Layout, lowest_budget, order

pytestmark = pytest.mark.heavy
SETTINGS = {
    "global_batch_size": 12,
    "epochs": 1,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.0,
    "seed": 5,
    "optimizer": Optimizer(epsilon=1e-4),
}
ROOM = 200  # places


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    return trainings.pairs(31)


def trained(
    folder: Path, pairs: pa.Table, settings: dict[str, Any] | None = None, reference: Path | None = None, **means: Any
) -> tuple[Manifest, dict[str, torch.Tensor]]:
    """The manifest and the published weights of DPO, against the model itself or against a second one."""
    plan, step = trainings.training(loss=Loss(type="dpo", beta=0.5), settings=SETTINGS | (settings or {}))
    if reference is not None:
        step = step.model_copy(update={"reference": ModelRef(lineage="other")})
        models = plan.models | {"other": ModelSource(url=reference.resolve().as_uri(), digest="sha256:other")}
        plan = plan.model_copy(update={"steps": (step,), "models": models})
    context = trainings.context(plan, folder, pairs, **means)
    manifest = program.train(context, step)
    assert context.folder.local is not None
    return manifest, load_file(context.folder.local / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, pairs: pa.Table) -> dict[str, torch.Tensor]:
    """One rank that was told its micro batch."""
    return trained(tmp_path_factory.mktemp("told"), pairs, micro_batch_tokens=ROOM)[1]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ranks find what their GPUs have room for, and leave what they saw."""
    folder = tmp_path / "played"
    folder.mkdir()
    (folder / "places").write_text(json.dumps([ROOM, ROOM]))
    monkeypatch.setenv("PLAYED", str(folder))
    monkeypatch.setattr(launch, "RANK", "played_rank")
    monkeypatch.setattr(Estimate, "room", lambda *_: None)  # as on a GPU
    return folder


def lowest(pairs: pa.Table, ranks: int) -> int:
    """The lowest budget with the micro batches that there is room for."""
    columns = [pairs[f"{name}_ids"].to_pylist() for name in ("prompt", "chosen", "rejected")]
    lengths = np.array([[len(ids) for ids in row] for row in zip(*columns, strict=True)])
    return lowest_budget(lengths, order(31, 1, 12, seed=5), ranks, ROOM, Layout(packed=True))


def seen(folder: Path, ranks: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(ranks)]


def test_one_rank_ends_bit_by_bit_as_if_told(
    tmp_path: Path, pairs: pa.Table, told: dict[str, torch.Tensor], played: Path
) -> None:
    manifest, found = trained(tmp_path / "run", pairs)
    assert all(torch.equal(found[name], told[name]) for name in told)
    assert manifest.result["microBatchTokens"] == lowest(pairs, ranks=1)
    (rank,) = seen(played, 1)
    low, again, high = rank["dummies"]
    assert low == again < high
    assert rank["gradients"][0] > 0
    assert rank["gradients"][1] == 0
    assert rank["to_come"] == rank["states"] > 0


@pytest.mark.parametrize("stage", [1, None, 3], ids=["ZeRO-1", "ZeRO-2, which fits", "ZeRO-3"])
def test_two_ranks_do_what_the_one_with_less_memory_can(
    tmp_path: Path, pairs: pa.Table, told: dict[str, torch.Tensor], played: Path, stage: int | None
) -> None:
    (played / "places").write_text(json.dumps([10 * ROOM, ROOM]))
    manifest, found = trained(tmp_path / "run", pairs, nodes=2, zero_stage=stage)
    for name, expected in told.items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-5, msg=name)
    assert manifest.result["microBatchTokens"] == lowest(pairs, ranks=2)
    ranks = seen(played, 2)
    assert ranks[0]["dummies"] == ranks[1]["dummies"]
    for rank in ranks:
        assert rank["to_come"] == rank["states"] > 0
        assert rank["threads"] == max(1, cpus_here() // 2)


def test_a_second_models_reference_is_measured_forward(tmp_path: Path, pairs: pa.Table, played: Path) -> None:
    shutil.copytree(trainings.MODEL, tmp_path / "other")
    lora = {"lora": Lora(rank=4, dropout=0.1), "precision": "bfloat16"}
    manifest, _ = trained(tmp_path / "run", pairs, lora, tmp_path / "other", nodes=2, zero_stage=3, offload="Optimizer")
    assert manifest.result["steps"] == 3
    for rank in seen(played, 2):
        assert len(rank["scored"]) == 3  # dummies; then it is measured again with what a step takes
        assert len(rank["dummies"]) == 3
        assert rank["threads"] == max(1, cpus_here() // 2)  # the offloaded optimiser's too
