"""The state of a training, cut for one number of ranks and stage, is whole again for any other; downloads keep no rank waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.train import elastic
from selfalign_jobs.train.elastic import MASTER, Index, Run, Shard

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(
    lambda sizes: {f"layer.{number}": size for number, size in enumerate(sizes)}
)
STAGES = st.sampled_from([None, 1, 2, 3])
RANKS = st.integers(1, 5)
KEYS = (MASTER, "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Place:
    """DeepSpeed's word for where a part of a parameter lies in the flat tensor of a rank."""

    start: int
    numel: int


def value(name: str, key: str, start: int, count: int) -> torch.Tensor:
    """Elements of a parameter's tensor, all of them different."""
    return (
        1e6 * KEYS.index(key) + 1e3 * int(name.split(".")[1]) + torch.arange(start, start + count, dtype=torch.float64)
    )


def runs_of(sizes: dict[str, int], stage: int | None, rank: int, ranks: int) -> tuple[Run, ...]:
    """What a rank holds, in one flat tensor."""
    if stage == 3:
        return elastic._parts(sizes, rank, ranks)
    whole = sum(sizes.values())
    part = whole if stage is None else -(-whole // ranks)
    low, found, at = rank * part, [], 0
    for name, size in sizes.items():
        start, end = max(at, low), min(at + size, low + part)
        if end > start:
            found.append(Run(name, start - at, end - start, start - low))
        at += size
    return tuple(found)


def room(runs: Sequence[Run], padding: int = 0) -> int:
    return max((run.at + run.count for run in runs), default=0) + padding


def flat(key: str, runs: Sequence[Run], padding: int) -> torch.Tensor:
    found = torch.full((room(runs, padding),), -1.0, dtype=torch.float64)
    for run in runs:
        found[run.at : run.at + run.count] = value(run.name, key, run.start, run.count)
    return found


def saved(sizes: dict[str, int], stage: int | None, ranks: int) -> Iterator[Shard]:
    """As DeepSpeed, or torch's optimiser, writes it."""
    if stage is None:
        weights = {name: value(name, MASTER, 0, size) for name, size in sizes.items()}
        state = {
            number: {key: value(name, key, 0, size) for key in KEYS[1:]} | {"step": torch.tensor(3.0)}
            for number, (name, size) in enumerate(sizes.items())
        }
        groups = [{"params": list(range(len(sizes)))}, {"params": []}]
        return elastic._whole(weights, {"state": state, "param_groups": groups}, [list(sizes), []])
    held = [runs_of(sizes, stage, rank, ranks) for rank in range(ranks)]
    base = [
        {"state": {0: {key: flat(key, runs, 2) for key in KEYS[1:]} | {"step": torch.tensor(3.0)}}} for runs in held
    ]
    masters = [flat(MASTER, runs, 2) for runs in held]
    if stage == 3:
        shapes = [{name: torch.Size([size]) for name, size in sizes.items()}]
        states = [
            {"optimizer_state_dict": of_rank, "fp32_flat_groups": [master]}
            for of_rank, master in zip(base, masters, strict=True)
        ]
        return (s for rank, state in enumerate(states) for s in elastic._zero3(state, shapes, rank, ranks))
    return elastic._zero1_or_2(
        [
            {
                "base_optimizer_state": of_rank,
                "single_partition_of_fp32_groups": [master],
                "param_slice_mappings": [{run.name: Place(run.at, run.count) for run in runs}],
            }
            for of_rank, master, runs in zip(base, masters, held, strict=True)
        ]
    )


@given(SIZES, STAGES, RANKS, STAGES, RANKS)
def test_any_cut_is_read_into_any_other(
    sizes: dict[str, int], before: int | None, of: int, after: int | None, into: int
) -> None:
    index = Index(saved(sizes, before, 1 if before is None else of))
    for rank in range(1 if after is None else into):
        runs = runs_of(sizes, after, rank, into)
        assert index.keys(runs) == (KEYS[1:] if runs else ())
        for key in KEYS:
            found = torch.full((room(runs),), -1.0, dtype=torch.float64)
            index.copy(key, runs, found)
            assert torch.equal(found, flat(key, runs, 0)), (key, rank)
        assert index.scalars(runs) == ({"step": torch.tensor(3.0)} if runs else {})


def test_another_models_checkpoint_is_told_by_the_parameter_that_differs() -> None:
    index = Index(saved({"layer.0": 7}, 2, 2))
    with pytest.raises(RuntimeError, match=r"the checkpoint has 7 of 9 elements of layer.0: it is of another model"):
        index.copy(MASTER, [Run("layer.0", 0, 9, 0)], torch.zeros(9))


def test_moments_that_no_step_has_touched_are_zeros() -> None:
    untouched = elastic._whole(
        {"layer.0": torch.ones(4)}, {"state": {}, "param_groups": [{"params": [0]}]}, [["layer.0"]]
    )
    index, runs, found = Index(untouched), [Run("layer.0", 0, 4, 0)], torch.zeros(4)
    assert index.keys(runs) == ()
    index.copy("exp_avg", runs, found)
    assert torch.equal(found, torch.zeros(4))


# --- downloads --------------------------------------------------------------------------------------------------------


def test_no_rank_gives_up_on_a_download_however_slow_the_store(tmp_path: Path) -> None:
    script, path = str(Path(__file__).with_name("slow_store.py")), os.pathsep.join(path for path in sys.path if path)
    ranks = [
        subprocess.Popen([sys.executable, script, str(rank), str(tmp_path)], env=os.environ | {"PYTHONPATH": path})
        for rank in (0, 1)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    assert (tmp_path / "said-1").read_text() == "of rank 0, of rank 1, gave up"
