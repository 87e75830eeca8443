"""The publish step: the newest model or the best, and the pairs that made it, copied to where others take them, with cards.

    <output.url>/selfalign.json  config.json  model.safetensors …  report.html  summary.json  README.md
    <output.url>/draft-model/ …                     (further models of a recipe: PIT's)
    <output.url>/selfalign.json  adapter_config.json  adapter_model.safetensors …  report.html …   (adapter: Keep)
    <output.datasetUrl>/selfalign.json  data/iter-<k>.parquet  README.md    (iter-<k>-<step>-<table> of several)

`selfalign.json` is written first: it says whose the folder is, and where all came from. The card is written last. A repository
of the hub gets all of it in one commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial

from selfalign_api.errors import ConfigError
from selfalign_api.places import Bucket, HubDataset, HubModel, file_url, local_path, parse_place
from selfalign_api.plan import Evaluate, ModelRef, Plan, Publish, Round
from selfalign_api.plan_values import Json
from selfalign_jobs.places.store import REPORT, SUMMARY, Folder, Manifest, read_manifest, read_parts, step_folder
from selfalign_jobs.publish.gates import refuse_unmet
from selfalign_jobs.publish.repository import Repository
from selfalign_jobs.publish.rounds import Rounds, rounds_of
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.step.context import StepContext, Stopped
from selfalign_jobs.step.finish import finish_manifest
from selfalign_jobs.step.prepared import rows_of

LINEAGE = "selfalign.json"
CARD = "README.md"
DATA = "data"
ADAPTER = "adapter"  # in a trained model's folder (train/export.py)

PAIRS = """pairs of a chosen and a rejected answer that the model was trained on.

Columns: `prompt`, `chosen`, `rejected` as text; `…_ids` are the same as token ids of the model, the end token included."""

MODEL_FIELD = "spec.output.url"
Write = Callable[[], object]
Target = Folder | Repository


def publish(context: StepContext, step: Publish) -> Manifest:
    """Copy what is asked for, of the round that is to be published, if the gates are passed.

    Raises ConfigError for a gate that is not and for a folder that is another run's, Stopped between two files.
    """
    started = datetime.now(UTC)
    plan = context.config.plan
    rounds = rounds_of(context.run, plan)
    assert rounds is not None  # this step publishes
    if rounds.missing is not None:
        raise RuntimeError(f"iteration {rounds.missing} has no finished evaluation; it runs before {step.name}")
    refuse_unmet(rounds)
    chosen = rounds.chosen
    lineage = _lineage(context.run, plan, rounds)
    writes: list[tuple[str, Write]] = []
    for field, url in destinations(step):
        target = _claimed(field, url, context, step, lineage)
        if field == MODEL_FIELD:
            writes += _beside(context, step, target)
            writes += _model(context, step.adapter, chosen, target, lineage)
        else:
            writes += _pairs(context, chosen, target)
        if isinstance(target, Repository):
            writes.append((f"the commit of {url}", partial(target.commit, f"selfalign: {plan.name}")))
    context.progress.begin("copy", len(writes), "files")
    for number, (name, write) in enumerate(writes, start=1):
        if context.stop.is_set():
            raise Stopped("stopped between two files; the next attempt copies them again")
        write()
        print(f"wrote {name}", flush=True)
        context.progress.advance(number)
    seconds = round((datetime.now(UTC) - started).total_seconds(), 2)
    result = {"iteration": chosen.iteration, "files": len(writes), "seconds": {"copy": seconds}}
    return finish_manifest(context, step, started, active_seconds=seconds, result=result)


def destinations(step: Publish) -> Iterator[tuple[str, str]]:
    """Field and URL of each of what a result is published to."""
    for field, url in ((MODEL_FIELD, step.url), ("spec.output.datasetUrl", step.dataset_url)):
        if url is not None:
            yield field, url


def destination(url: str, step: Publish, mounts: Mapping[str, str], field: str) -> Target:
    """What an output's URL names. Raises ConfigError at `field` for one that cannot be reached from here."""
    place = parse_place(url, field)
    if isinstance(place, HubModel | HubDataset):
        return Repository.of(place, step.visibility, field)
    return Folder.open(url if isinstance(place, Bucket) else file_url(local_path(url, mounts, field=field).resolve()))


def refuse_other_runs(field: str, url: str, folder: Target, plan: Plan) -> None:
    """ConfigError when what is published to holds something that this run has not published."""
    there = folder.files()
    if LINEAGE in there:
        owner = _owner(folder.read(LINEAGE))
        if owner != _identity(plan):
            message = f"holds what {owner['namespace']}/{owner['name']} has published; write a folder of its own"
            raise ConfigError.one(field, message, url)
    elif there:
        message = f"holds {there[0]}, which no run has published; write an empty folder"
        raise ConfigError.one(field, message, url)


def _owner(lineage: bytes) -> dict[str, str]:
    """Who published a folder, by its lineage; of a broken one nobody that can be named."""
    unknown = {"namespace": "?", "name": "?"}
    try:
        said = json.loads(lineage)["run"]
    except (ValueError, KeyError, TypeError):
        return unknown
    return unknown | said if isinstance(said, dict) else unknown


def _identity(plan: Plan) -> dict[str, str]:
    return {"namespace": plan.namespace, "name": plan.name, "digest": plan.digest}


def _claimed(field: str, url: str, context: StepContext, step: Publish, lineage: dict[str, Json]) -> Target:
    """What is published to, once it says that it is this run's."""
    target = destination(url, step, context.config.mounts, field)
    refuse_other_runs(field, url, target, context.config.plan)
    if isinstance(target, Repository):
        target.make()
    target.write(LINEAGE, json.dumps(lineage, indent=1).encode())
    return target


def _model(
    context: StepContext, adapter: str, chosen: Round, target: Target, lineage: dict[str, Json]
) -> Iterator[tuple[str, Write]]:
    source = _trained(context, chosen.model, adapter)
    for name in source.files():
        if name != CARD:
            yield name, partial(target.copy, source, name)
    for name in (REPORT, SUMMARY):
        if context.run.exists(name):
            yield name, partial(target.copy, context.run, name)
    plan = context.config.plan
    card = source.read(CARD).decode() + recipe(plan.recipe).used(plan) + _evaluation(lineage) + _selection(lineage)
    yield CARD, partial(target.write, CARD, card.encode())


def _beside(context: StepContext, step: Publish, target: Target) -> Iterator[tuple[str, Write]]:
    """The further models, each in its own folder, with its own card."""
    for below, model in step.beside.items():
        source = _trained(context, model)
        for name in source.files():
            yield f"{below}/{name}", partial(target.child(below).copy, source, name)


def _trained(context: StepContext, model: ModelRef, adapter: str = "Merge") -> Folder:
    """The folder of a model that a step of the run has made, or of its adapter alone."""
    trainer = context.config.plan.trainer_of(model)
    assert trainer is not None  # a training's result is what is published
    folder = step_folder(context.run, trainer.iteration, trainer.name)
    manifest = read_manifest(folder)
    if manifest is None or manifest.model is None:
        raise RuntimeError(f"step {trainer.name} has published no model; it runs before this one")
    return folder.child(manifest.model if adapter == "Merge" else f"{manifest.model}/{ADAPTER}")


def _pairs(context: StepContext, chosen: Round, target: Target) -> Iterator[tuple[str, Write]]:
    plan, rows = context.config.plan, 0
    for ref in chosen.pairs:
        source = plan.step(ref.step)
        folder = step_folder(context.run, source.iteration, source.name)
        manifest = read_manifest(folder)
        if manifest is None:
            raise RuntimeError(f"step {ref.step} is not done; it runs before this one")
        table = rows_of(read_parts(folder, manifest.tables[ref.name]))
        rows += table.num_rows
        alone = sum(plan.step(other.step).iteration == source.iteration for other in chosen.pairs) == 1
        name = f"{DATA}/iter-{source.iteration}{'' if alone else f'-{ref.step}-{ref.name}'}.parquet"
        yield name, partial(target.write_table, name, table)
    yield CARD, partial(target.write, CARD, _dataset_card(plan, rows).encode())


def _lineage(run: Folder, plan: Plan, rounds: Rounds) -> dict[str, Json]:
    """Where a result comes from: the run, what it was given, its round and why that one, and each step's manifest."""
    chosen = rounds.chosen
    manifests = [(step, read_manifest(step_folder(run, step.iteration, step.name))) for step in plan.steps]
    return {
        "run": _identity(plan),
        "recipe": plan.recipe,
        "version": plan.version,
        "seed": plan.seed,
        "iteration": chosen.iteration,
        "selectBy": rounds.step.select_by,
        "values": {str(k): value for k, value in rounds.values.items()},
        "models": {name: {"url": model.url, "digest": model.digest} for name, model in plan.models.items()},
        "sources": {name: {"url": source.url, "digest": source.digest} for name, source in plan.sources.items()},
        "steps": [
            manifest.model_dump(mode="json", include={"step", "digest", "attempt", "versions", "models", "result"})
            for _, manifest in manifests
            if manifest is not None
        ],
        "evaluation": next(
            (
                m.result["checks"]
                for step, m in reversed(manifests)
                if isinstance(step, Evaluate) and step.iteration <= chosen.iteration and m is not None
            ),
            {},
        ),
    }


def _evaluation(lineage: dict[str, Json]) -> str:
    """The newest evaluation as a section of the model's card; nothing without one."""
    rows = list(_figures(lineage["evaluation"], ""))
    if not rows:
        return ""
    table = "\n".join(f"| {name} | {value:.3f} | {low:.3f} to {high:.3f} |" for name, value, low, high in rows)
    return f"\n## Evaluation\n\n| held out | | 95 % |\n|---|---|---|\n{table}\n"


def _selection(lineage: dict[str, Json]) -> str:
    """Why it is this round's model; nothing where it is the last one's as a matter of course."""
    values, check = lineage["values"], lineage["selectBy"]
    if check is None:
        return ""
    told = ", ".join(f"{value:.3f} after iteration {k}" for k, value in values.items())
    return f"\nThis is the model of iteration {lineage['iteration']}, the best by {check}: {told}.\n"


def _figures(checks: Mapping[str, Json], above: str) -> Iterator[tuple[str, float, float, float]]:
    """Every figure with an interval, named by its path."""
    for name, value in checks.items():
        if not isinstance(value, dict):
            continue
        if {"value", "low", "high"} <= value.keys():
            yield f"{above}{name}", value["value"], value["low"], value["high"]
        else:
            yield from _figures(value, f"{above}{name}, ")


def _dataset_card(plan: Plan, rows: int) -> str:
    own = recipe(plan.recipe).published
    return f"""---
configs:
- config_name: default
  data_files: {DATA}/*.parquet
tags: [selfalign, {plan.recipe}{"" if own else ", preference"}]
---
# {"Rows" if own else "Pairs"} of {plan.name}

{rows} {own or PAIRS}

Made by recipe {plan.recipe} (selfalign {plan.version}, seed {plan.seed}). {LINEAGE} says from what.
"""
