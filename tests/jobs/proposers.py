"""ReverseGen's tiny example, and its controls; these take what the run has made already."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import small_runs
from small_runs import SmallRun
from tiny_run import EXAMPLES

sys.path.insert(0, str(EXAMPLES.parent / "benchmarks"))

import controls

PROPOSALS = 1000  # fewer, and the share that fails means little


def right(folder: Path) -> SmallRun:
    """The example: two iterations, and what both have found taught."""
    return small_runs.ran(small_runs.plan_of("reversegen-tiny.yaml", changes()), folder)


def exchanged(run: SmallRun, folder: Path) -> SmallRun:
    """The same proposer, trained on pairs of which half are the wrong way round."""
    taken(run, ("i1-warm-up", "i1-generate"), folder)
    rng, pairs = random.Random(0), run.of("i1-train").read_table("prepared/pairs.parquet")
    columns = {name: pairs[name].to_pylist() for name in pairs.column_names}
    for row in range(pairs.num_rows):
        if rng.random() < 0.5:
            for part in ("", "_ids"):
                sides = columns[f"chosen{part}"], columns[f"rejected{part}"]
                sides[0][row], sides[1][row] = sides[1][row], sides[0][row]
    plan = run.plan.model_copy(update={"steps": run.plan.steps[:-1]})  # what is found is not taught
    return small_runs.ran(
        replace(run.resolved, plan=plan), folder, {"i1-train": pa.table(columns, schema=pairs.schema)}
    )


def taught_by_itself(run: SmallRun, folder: Path) -> SmallRun:
    """The same proposer, once; what the target learns are its own answers."""
    taken(run, ("i1-warm-up",), folder)
    own = controls.own_teacher(run.folder, folder) | {"iterations": 1}
    return small_runs.ran(small_runs.plan_of("reversegen-tiny.yaml", changes(PROPOSALS // 2) | own), folder)


def failing(run: SmallRun, k: int) -> float:
    """The share of an iteration's valid and distinct proposals on which the target fails."""
    found = run.rows(f"i{k}-generate", "found")
    return sum(row["failed"] for row in found) / len(found)


def valid(run: SmallRun, k: int) -> float:
    """The share of an iteration's proposals that are distinct and valid."""
    return len(run.rows(f"i{k}-generate", "verified")) / PROPOSALS


def changes(proposals: int = PROPOSALS) -> dict[str, Any]:
    """What is smaller than in the example."""
    return {"reversegen": {"proposalsPerIteration": proposals}}


def taken(run: SmallRun, steps: Iterable[str], folder: Path) -> None:
    """Finished steps of a run, as another's."""
    for step in steps:
        shutil.copytree(run.folder / "iter-1" / step, folder / "iter-1" / step)
