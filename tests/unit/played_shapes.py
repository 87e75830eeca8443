"""Runs whose plans are of other shapes than SAO's: the plans of `plans.py`, with folders as their steps would leave them.

Each recipe here has the flows that its plan names, and no behaviour: tables, logs and manifests are written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from plans import RECIPES, SETTINGS, given, made, plan_of, policy, rows

from selfalign_api.plan import Check, EngineLoad, Evaluate, FlowJob, Generate, Plan, Train, prepares_of
from selfalign_api.training_values import Loss
from selfalign_jobs.generate.records import Record, to_table
from selfalign_jobs.places.store import Folder, Manifest, TableEntry, step_folder, write_manifest
from selfalign_jobs.recipes import base
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.rows import ANSWERS, PAIRS
from selfalign_jobs.recipes.tables import with_counts

WRITTEN = pa.schema([pa.field("prompt", pa.string()), pa.field("prompt_seed", pa.uint64())])
TEXTS = pa.schema([pa.field("prompt", pa.string()), pa.field("answer", pa.string())])
SCORED = pa.schema([*PAIRS, pa.field("chosen_score", pa.float64()), pa.field("rejected_score", pa.float64())])
SCORES = pa.schema([pa.field("prompt", pa.string()), pa.field("score", pa.float64())])
PROMPTS = {"prompt": "prompts written"}
FLOWS: dict[str, dict[str, FlowDef]] = {
    "synpo": {
        "write-prompt": FlowDef(None, WRITTEN, PROMPTS),  # type: ignore[arg-type]
        "answer": FlowDef(None, TEXTS),  # type: ignore[arg-type]
        "improve": FlowDef(None, TEXTS),  # type: ignore[arg-type]
        "score": FlowDef(None, SCORED),  # type: ignore[arg-type]
    },
    "pit": {
        "improve": FlowDef(None, TEXTS),  # type: ignore[arg-type]
        "score": FlowDef(None, SCORES),  # type: ignore[arg-type]
    },
    "offline": {"answer": FlowDef(None, ANSWERS)},  # type: ignore[arg-type]
}


def offline(iterations: int = 1) -> tuple[Step, ...]:
    """Pairs of one's own, without any generation: train, then answer with both models."""
    return tuple(step for k in range(1, iterations + 1) for step in _trained_and_compared(k))


def _trained_and_compared(k: int) -> tuple[Step, ...]:
    name = f"i{k}-evaluate"
    answers = {
        out: FlowJob(flow="answer", rows=rows("questions", given("evaluation")), out=out) for out in ("before", "after")
    }
    loads = tuple(EngineLoad(model=policy(j), jobs=(answers[out],)) for j, out in ((0, "before"), (k, "after")))
    check = Check(
        name="accuracy", type="ExactMatch", before=made(name, "before"), after=made(name, "after"), temperatures=(0, 1)
    )
    return (
        Train(
            name=f"i{k}-train",
            iteration=k,
            loss=Loss(type="dpo"),
            data=rows("training-pairs", given("preferences")),
            start=policy(k - 1),
            reference=policy(k - 1),
            result=policy(k),
            settings=SETTINGS,
        ),
        Evaluate(name=name, iteration=k, loads=loads, checks=(check,)),
    )


SHAPES = {"synpo": RECIPES["synpo"], "pit": RECIPES["pit"], "offline": offline}


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How much better what was improved is: known to this recipe alone."""
    if "improved" in tables and "answers" in tables:
        yield Remark("pairs", "improved", 0.25, "is what the improver adds to a draft.")


@contextmanager
def known(name: str) -> Iterator[None]:
    """The recipe is one of those that are built, while this lasts."""
    module = ModuleType(f"selfalign_jobs.recipes.{name}")
    module.RECIPE = Recipe(  # type: ignore[attr-defined]
        name=name,
        paper=f"the paper of {name}",
        data={},
        defaults_for=lambda given: {},
        variables={},
        required={},
        flows=FLOWS[name],
        prepares={each.fn: PrepareDef(None) for step in SHAPES[name]() for each in prepares_of(step)},  # type: ignore[arg-type]
        plan=lambda method: SHAPES[name](),
        longest=lambda method, sources: {},
        remarks=remarks,
    )
    with (
        mock.patch.dict(sys.modules, {module.__name__: module}),
        mock.patch.object(base, "RECIPES", (*base.RECIPES, name)),
    ):
        yield


def played(path: Path, name: str, until: str | None = None) -> tuple[Folder, Plan]:
    """The folder of a run of this shape: every step finished, or those before `until`, which stands in its middle."""
    plan, folder = plan_of(name, SHAPES[name]()), Folder.open((path / name).as_uri())
    for number, step in enumerate(plan.steps):
        rng = np.random.default_rng(number)
        place, open_ = step_folder(folder, step.iteration, step.name), step.name == until
        _play(place, plan, step, rng, open_)
        if open_:
            break
    return folder, plan


def _play(place: Folder, plan: Plan, step: Step, rng: np.random.Generator, open_: bool) -> None:
    if isinstance(step, Train):
        _prepare(place, "pairs", 90)
        if step.data.fn == "training-pairs":  # pairs as texts, with ids as the model would have written them
            names = ("prompt", "chosen", "rejected", "prompt_ids", "chosen_ids", "rejected_ids")
            table = pa.Table.from_pylist([{name: _row(number, rng)[name] for name in names} for number in range(90)])
            place.write_table("prepared/pairs.parquet", with_counts(table, {"pairs": 90}))
        if not open_:
            log = training_log(step, rng)
            place.write_table("parts/log.parquet", log)
            result = {"steps": log.num_rows, "pairs": 86, "droppedOverlong": 4, "seconds": {"load": 2.0, "train": 20.0}}
            finished(place, plan, step, {"log": TableEntry(parts=("parts/log.parquet",), rows=log.num_rows)}, result)
        return
    assert isinstance(step, Generate | Evaluate)
    tables = {}
    for job in (job for load in step.loads for job in load.jobs):
        _prepare(place, job.out, 100)
        if base.recipe(plan.recipe).flows[job.flow].schema == ANSWERS:
            asked = [{"prompt": f"Held out question {n}?", "reference": str(n)} for n in range(100)]
            place.write_table(f"prepared/{job.out}.parquet", pa.Table.from_pylist(asked))
        schema = base.recipe(plan.recipe).flows[job.flow].schema
        records = [_record(number, schema, rng) for number in range(40 if open_ else 100)]
        part = f"parts/{job.out}/00001-000001-aaaaaaaa.parquet"
        place.write_table(part, to_table(records, schema))
        tables[job.out] = TableEntry(
            parts=(part,), rows=sum(len(record.rows) for record in records if record.status == "rows")
        )
    if not open_:
        result = {
            "rows": {out: entry.rows for out, entry in tables.items()},
            "seconds": {"engineStart": 9.0, "generate": 30.0},
        }
        if isinstance(step, Evaluate):
            result["checks"] = checks_of(step)
        finished(place, plan, step, tables, result)


def _prepare(place: Folder, name: str, number: int) -> None:
    place.write_table(
        f"prepared/{name}.parquet", with_counts(pa.table({"row": list(range(number))}), {"pairs": number})
    )


def _record(number: int, schema: pa.Schema, rng: np.random.Generator) -> Record:
    """Of ten records one is set aside, and one dropped."""
    if number % 10 == 3:
        return Record(f"{number}", number, 0, "set-aside", "too long")
    if schema == ANSWERS:
        return Record(f"{number}", number, 0, "rows", rows=tuple(_answers(number, rng)))
    row = {name: value for name, value in _row(number, rng).items() if name in schema.names}
    if number % 10 == 7:
        return Record(f"{number}", number, 0, "dropped", "score under the threshold", rows=(row,))
    return Record(f"{number}", number, 0, "rows", rows=(row,))


def _row(number: int, rng: np.random.Generator) -> dict[str, Any]:
    tokens = [int(token) for token in rng.integers(0, 99, 4)]
    gap = float(rng.normal(2, 1))
    return {
        "prompt": f"question {number}?", "prompt_seed": number, "answer": f"answer {number}", "score": gap,
        "chosen": f"better {number}", "rejected": f"worse {number}", "prompt_ids": tokens, "chosen_ids": tokens * 3,
        "rejected_ids": tokens * 2, "chosen_finish": "stop", "rejected_finish": "stop",
        "chosen_score": gap - 1, "rejected_score": -gap,
    }  # fmt: skip


def _answers(number: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Answers to a held-out prompt (report_run.py has the same ones), right in six of ten."""
    for role in ("greedy", "sampled"):
        answer = str(number) if rng.random() < 0.6 else "something else"
        yield {"prompt": f"Held out question {number}?", "reference": str(number), "role": role, "answer": answer}


def training_log(step: Train, rng: np.random.Generator) -> pa.Table:
    """What the trainer of each objective logs (train/trainer.py, objectives.py)."""
    done = np.linspace(0, 1, 30)
    columns = {
        "step": np.arange(1, 31),
        "loss": 1 - done / 2 + rng.normal(0, 0.02, 30),
        "learning_rate": 1e-6 * (1 - done),
    }
    if step.objective != "sft":
        columns |= {"margin": done * 2, "accuracy": 0.5 + done / 3, "rewards_chosen": done, "rewards_rejected": -done}
    return pa.table(columns)


def checks_of(step: Evaluate) -> dict[str, Any]:
    figures = {"before": 0.5, "after": 0.7, "gain": 0.2}
    return {
        f"{check.name}.{role}.{part}": {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 200}
        for check in step.checks
        for role in ("greedy", "sampled")
        for part, value in figures.items()
    }


def finished(place: Folder, plan: Plan, step: Step, tables: dict[str, TableEntry], result: dict[str, Any]) -> None:
    manifest = Manifest(
        step=step.name,
        kind=step.kind,
        digest=plan.step_digest(step.name),
        recipe=plan.recipe,
        version="0",
        attempt=1,
        started="2026-11-29T09:00:00+00:00",
        finished="2026-11-29T09:00:45+00:00",
        active_seconds=30.0,
        tables=tables,
        model="model" if isinstance(step, Train) else None,
        seed=0,
        tokens={"train": 9000} if isinstance(step, Train) else {"respond.out": 6000},
        result=result,
    )
    write_manifest(place, manifest)
