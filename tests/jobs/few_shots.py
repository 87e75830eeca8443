"""FSPO's two trainings on the tiny model, and whose taste its answers are in, without an engine."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import trainings
import yaml
from tiny_effects import Rows, log_probabilities
from tiny_run import EXAMPLES, MOUNTS
from trainings import MODEL, TINY

from selfalign_api.load import parse
from selfalign_api.plan import Evaluate, Plan, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.places.sources import read_source
from selfalign_jobs.recipes.few_shot import turn
from selfalign_jobs.recipes.windows import held_out_windows


@cache
def users() -> ModuleType:
    """The program that wrote the example's users."""
    sys.path.insert(0, str(TINY / "build"))
    try:
        spec = importlib.util.spec_from_file_location("tiny_users", TINY / "build" / "users.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TINY / "build"))
    return module


def plan_of(rows: Rows, folder: Path, **changes: Any) -> Plan:
    """The plan of the example on these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = yaml.safe_load((EXAMPLES / "fspo-tiny.yaml").read_text())
    document["spec"]["data"]["preferences"] = {"url": (folder / "rows.jsonl").as_uri()}
    training = document["spec"]["training"]
    for values in (training, *training["stages"]):
        values["learningRate"] = float(values["learningRate"])
    document["spec"] |= changes
    return resolve(parse(SelfAlignmentRun, document, ""), "CPU", MOUNTS, EXAMPLES).plan


def trained(plan: Plan, folder: Path) -> dict[str, Path]:
    """The models that its trainings make, by the steps' names."""
    return {step.name: trainings.trained(plan, step.name, folder) for step in plan.steps if isinstance(step, Train)}


def asked(plan: Plan) -> pa.Table:
    """The windows of held-out users."""
    evaluated = plan.steps[-1]
    assert isinstance(evaluated, Evaluate)
    source = read_source("preferences", plan.sources["preferences"], MOUNTS)
    return held_out_windows((source,), evaluated.loads[0].jobs[0].rows.options)


def in_taste(model: Path, windows: pa.Table, template: str, shots: str | None = "shots") -> float:
    """The share of windows whose preferred answer is likelier than the same in the other form, with these shots shown."""
    chat = ModelChat.of(MODEL, None)
    sides: list[list[tuple[list[int], list[int]]]] = [[], []]
    for row in windows.to_pylist():
        said = turn(template, row[shots] if shots else [], row["question"])
        word, *more = row["reference"].split()
        for side, answer in zip(sides, (row["reference"], word if more else f"{word} {word}"), strict=True):
            side.append(chat.given(said, answer))
    chosen, rejected = (log_probabilities(model, side) for side in sides)
    return sum(one > other for one, other in zip(chosen, rejected, strict=True)) / windows.num_rows
