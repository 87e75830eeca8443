"""`selfalign recipes`: what is built, from the recipes themselves: papers, data, trainings, values of fields left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from selfalign_api.load import parse
from selfalign_api.places import file_url
from selfalign_api.plan import Train
from selfalign_api.plan_values import Json
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.local.show_plan import training_words
from selfalign_jobs.recipes.base import RECIPES, Recipe, recipe


def recipes_table() -> Table:
    """Some lines a recipe: its paper, the data that it reads, what it does each round, and each of its trainings."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for name in RECIPES:
        found = recipe(name)
        iterations, trainings = _trainings(found)
        rows = [
            ("paper", found.paper),
            ("data", ", ".join(f"{kind} ({_how(found, kind)})" for kind in found.data)),
            ("iterations", f"{iterations}{_rounds(found.defaults_for({}))}"),
            *((f"trains {step.result.lineage}", training_words(step)) for step in trainings),
        ]
        for number, (what, words) in enumerate(rows):
            table.add_row(Text(name if number == 0 else "", style="bold"), Text(what), Text(words))
    return table


def _rounds(defaults: dict[str, Json]) -> str:
    """How a round follows the one before, and who judges, of the values that a recipe fills in."""
    rounds, judge = defaults.get("iteration", {}), defaults.get("judge", {})
    parts = [f"start {rounds['start']}"] if "start" in rounds else []
    parts += [f"reference {rounds['reference']}"] if "reference" in rounds else []
    parts += [f"pairs {rounds['dataWindow']}"] if "dataWindow" in rounds else []
    parts += [f"judge {judge['method']}"] if "method" in judge else []
    return "".join(f", {part}" for part in parts)


def recipes_json() -> list[Json]:
    """The same for programs, with every value that a recipe fills in."""
    return [_document(recipe(name)) for name in RECIPES]


def _document(found: Recipe) -> Json:
    iterations, trainings = _trainings(found)
    return {
        "name": found.name,
        "paper": found.paper,
        "data": {kind: _how(found, kind) for kind in found.data},
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


def _how(found: Recipe, kind: str) -> str:
    if kind in found.either:
        return f"or {' or '.join(other for other in found.either if other != kind)}"
    return "needed" if found.data[kind] else "optional"


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


def _smallest(found: Recipe) -> list[str]:
    return [kind for kind, needed in found.data.items() if needed or kind in found.either[:1]]


def a_run(found: Recipe) -> SelfAlignmentRun:
    """The smallest run of a recipe: what it needs, and nothing else."""
    folder = Path("/data")
    data = {kind: {"url": file_url(folder / f"{kind}.jsonl")} for kind in _smallest(found)}
    spec: dict[str, Json] = {"recipe": found.name, "model": {"url": file_url(folder / "model")}} | (
        {"data": data} if data else {}
    )
    spec |= found.needs
    if found.scored:
        scorer = {"name": "scorer", "kind": "PairRanker", "url": file_url(folder / "scorer")}
        spec |= {"auxiliaryModels": [scorer], "judge": {"method": "score", "modelName": "scorer"}}
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": found.name}}
    return parse(SelfAlignmentRun, document | {"spec": spec}, "")
