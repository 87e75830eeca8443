"""`selfalign recipes`: what is built, from the recipes themselves: papers, data, trainings, values of fields left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from selfalign_api.load import parse
from selfalign_api.plan import Json, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.local.show_plan import training_words
from selfalign_jobs.recipes.base import RECIPES, Recipe, recipe


def recipes_table() -> Table:
    """A row a recipe, a line of it each data and training."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("recipe", "paper", "data", "iterations", "trainings"):
        table.add_column(column, overflow="fold")
    for name in RECIPES:
        found = recipe(name)
        iterations, trainings = _trainings(found)
        lines = [f"{step.result.lineage}: {training_words(step)}" for step in trainings]
        data = [f"{kind} ({_how(needed)})" for kind, needed in found.data.items()]
        cells = (name, found.paper, "\n".join(data), str(iterations), "\n".join(lines))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def recipes_json() -> list[Json]:
    """The same for programs, with every value that a recipe fills in."""
    return [_document(recipe(name)) for name in RECIPES]


def _document(found: Recipe) -> Json:
    iterations, trainings = _trainings(found)
    return {
        "name": found.name,
        "paper": found.paper,
        "data": {kind: _how(needed) for kind, needed in found.data.items()},
        "iterations": iterations,
        "trainings": [
            {
                "model": step.result.lineage,
                "objective": step.objective,
                "loss": step.loss.type,
                "learningRate": step.settings.learning_rate,
                "globalBatchSize": step.settings.global_batch_size,
                "epochs": step.settings.epochs,
            }
            for step in trainings
        ],
        "defaults": found.defaults_for({}),
    }


def _how(needed: bool) -> str:
    return "needed" if needed else "optional"


def _trainings(found: Recipe) -> tuple[int, list[Train]]:
    """Iterations of the plan of a run that leaves all else out, and its trainings: the first of each model."""
    method = method_of(method_values(a_run(found), "GPU", {}, Path()))
    return method.iterations, list(_first_of_each(found.plan(method)))


def _first_of_each(steps: tuple[object, ...]) -> Iterator[Train]:
    seen: set[str] = set()
    for step in steps:
        if isinstance(step, Train) and step.result.lineage not in seen:
            seen.add(step.result.lineage)
            yield step


def a_run(found: Recipe) -> SelfAlignmentRun:
    """The smallest run of a recipe: what it needs, and nothing else."""
    data = {kind: {"url": f"file:///data/{kind}.jsonl"} for kind, needed in found.data.items() if needed}
    spec = {"recipe": found.name, "model": {"url": "file:///model"}} | ({"data": data} if data else {})
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": found.name}}
    return parse(SelfAlignmentRun, document | {"spec": spec}, "")
