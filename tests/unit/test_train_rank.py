"""What a rank sets up before torch is imported, and how many threads it takes."""

from __future__ import annotations

import os

import pytest

from selfalign_api.plan_values import Json
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.train.rank import ALLOCATOR, environment
from selfalign_jobs.train.settings import threads_of

RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
EXPANDABLE = "expandable_segments:True"


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of this test's own, as the elastic agent gives it."""
    given = dict.fromkeys(RANK, "0") | {"PATH": os.environ["PATH"]}
    monkeypatch.setattr(os, "environ", given)
    return given


def means(**values: Json) -> TrainingMeans:
    return TrainingMeans.model_validate({"device": "GPU", "gpus_per_node": 1} | values)


@pytest.mark.parametrize("gpus", [1, 4])
def test_on_gpus_segments_can_grow(environ: dict[str, str], gpus: int) -> None:
    environment(means(gpus_per_node=gpus))
    assert environ["PYTORCH_ALLOC_CONF"] == EXPANDABLE


@pytest.mark.parametrize("name", ALLOCATOR)
def test_an_allocator_that_somebody_set_up_is_left_as_it_is(environ: dict[str, str], name: str) -> None:
    environ[name] = "max_split_size_mb:64"
    environment(means())
    assert {name: environ[name] for name in ALLOCATOR if name in environ} == {name: "max_split_size_mb:64"}


def test_on_cpus_there_is_no_allocator_to_set_up(environ: dict[str, str]) -> None:
    environment(means(device="CPU"))
    assert not set(ALLOCATOR) & set(environ)
    assert environ["DS_ACCELERATOR"] == "cpu"


def test_one_rank_is_no_group_and_sees_one_gpu(environ: dict[str, str]) -> None:
    environ["CUDA_VISIBLE_DEVICES"] = "2,3"
    environment(means())
    assert not set(RANK) & set(environ)
    assert environ["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(("values", "cpus", "here", "threads"), [
    ({"offload": "Optimizer"}, 64, 4, 16),
    ({"offload": "OptimizerAndParameters"}, 64, 8, 8),
    ({"offload": "Optimizer"}, 2, 4, 1),
    ({"device": "CPU"}, 8, 2, 4),
    ({"device": "CPU"}, 1, 2, 1),
    ({}, 64, 4, None),
])  # fmt: skip
def test_what_computes_on_the_cpus_shares_them(
    values: dict[str, Json], cpus: int, here: int, threads: int | None
) -> None:
    assert threads_of(means(**values), cpus, here) == threads
