"""A training that was stopped goes on with other ranks, another ZeRO stage or another offload, as if nothing had changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import trainings
from safetensors.torch import load_file

from selfalign_api.plan import Train
from selfalign_api.training_values import Lora, Loss, Optimizer
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.train import program

pytestmark = pytest.mark.heavy
ADAM = Optimizer(epsilon=1e-4)  # with less of it a gradient that is only rounding would be a step of its own
SETTINGS = {
    "global_batch_size": 12,
    "epochs": 1,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.0,
    "seed": 5,
    "optimizer": ADAM,
}
ONE: dict[str, Any] = {}
OFFLOADED = {"zero_stage": 2, "offload": "Optimizer"}


def two(stage: int, **means: Any) -> dict[str, Any]:
    return {"nodes": 2, "zero_stage": stage, "micro_batch_tokens": 200} | means


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    """Two batches of twelve pairs, and a last one of seven."""
    return trainings.pairs(31)


def context(folder: Path, pairs: pa.Table, settings: dict[str, Any], **means: Any) -> StepContext:
    plan, _ = trainings.training(loss=Loss(type="dpo", beta=0.5), settings=SETTINGS | settings)
    return trainings.context(plan, folder, pairs, **means)


def trained(made: StepContext) -> dict[str, torch.Tensor]:
    """The weights that it ends in."""
    step = made.config.plan.steps[0]
    assert isinstance(step, Train)
    program.train(made, step)
    return load_file(local(made) / "model" / "model.safetensors")


def local(made: StepContext) -> Path:
    assert made.folder.local is not None
    return made.folder.local


class Unbroken:
    """Trainings of three steps that nothing disturbs, each once; they keep what they saved after each step."""

    def __init__(self, folder: Path, pairs: pa.Table) -> None:
        self._folder, self._pairs = folder, pairs
        self._found: dict[str, tuple[StepContext, dict[str, torch.Tensor]]] = {}

    def of(self, name: str, means: dict[str, Any]) -> tuple[Path, dict[str, torch.Tensor]]:
        """The step's folder of the training with this name's settings and these means, and its weights."""
        key = f"{name} {means}"
        if key not in self._found:
            saves = {"checkpoint_interval_seconds": 0, "keep_checkpoints": 9}
            made = context(self._folder / str(len(self._found)), self._pairs, DIFFERING[name], **saves, **means)
            self._found[key] = made, trained(made)
        made, weights = self._found[key]
        return local(made), weights


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, pairs: pa.Table) -> Unbroken:
    return Unbroken(tmp_path_factory.mktemp("unbroken"), pairs)


DIFFERING: dict[str, dict[str, Any]] = {
    "full": {},
    "bfloat16": {"precision": "bfloat16", "global_batch_size": 31},  # one step
    "lora": {"lora": Lora(rank=4, alpha=8)},
    "rmsprop": {"optimizer": Optimizer(type="rmsprop", epsilon=1e-4, weight_decay=0.1)},
}
CASES = [
    ("full", ONE, two(2)),
    ("full", two(3), ONE),
    ("full", two(2), {"nodes": 3, "zero_stage": 3}),
    ("full", OFFLOADED, two(2)),
    ("lora", ONE, two(3, activation_checkpointing="Full")),
    ("rmsprop", two(2), ONE),
]


def steps_of(folder: Path) -> list[dict[str, float]]:
    """Which examples each step took, by their tokens."""
    found: list[dict[str, float]] = pq.read_table(
        folder / "parts" / "log.parquet", columns=["step", "tokens"]
    ).to_pylist()
    return found


@pytest.mark.parametrize(("name", "before", "after"), CASES)
def test_resumed_by_others_it_ends_where_one_rank_that_nothing_disturbed_does(
    tmp_path: Path, pairs: pa.Table, unbroken: Unbroken, name: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    made = context(tmp_path, pairs, DIFFERING[name], **after)
    saved, _ = unbroken.of(name, before)
    for part in ("reference", "checkpoints/attempt-1/step-1"):
        shutil.copytree(saved / part, local(made) / part)
    found = trained(made)
    one, expected = unbroken.of(name, ONE)
    assert steps_of(local(made)) == steps_of(one)
    for parameter, tensor in expected.items():
        torch.testing.assert_close(found[parameter], tensor, rtol=0, atol=1e-5, msg=parameter)


def test_masters_are_taken_over_as_they_are_in_bfloat16(tmp_path: Path, pairs: pa.Table, unbroken: Unbroken) -> None:
    """After the only step nothing is left but to publish them; ZeRO-1 has an optimiser of its own there."""
    saved, expected = unbroken.of("bfloat16", two(1))
    made = context(tmp_path, pairs, DIFFERING["bfloat16"], **two(2))
    for part in ("reference", "checkpoints/attempt-1/step-1"):
        shutil.copytree(saved / part, local(made) / part)
    found = trained(made)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
