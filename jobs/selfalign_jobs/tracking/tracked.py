"""What is tracked of a run: from what lies in its folder to parameters, points and artefacts. Reads, and writes nothing.

Everything is durable before it is tracked. So tracking what a server missed is tracking once more, and comes to the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from selfalign_api.digest import leaves
from selfalign_api.plan import AnyStep, ArtifactRef, Evaluate, Generate, Plan, Publish, Train, digest_of
from selfalign_api.plan_values import Json
from selfalign_jobs.accept.owner import OWNER, read_owner
from selfalign_jobs.places.store import REPORT, SUMMARY, Folder, Manifest, read_manifest, read_parts, step_folder
from selfalign_jobs.publish.program import CARD, LINEAGE, MODEL_FIELD, Target, destination, destinations
from selfalign_jobs.publish.rounds import rounds_of
from selfalign_jobs.recipes.tables import learned_from
from selfalign_jobs.step import points
from selfalign_jobs.step.points import Point

LOG = "log"  # the table of a train step
CARD_FOLDER, DATA_CARD_FOLDER, TABLES = "model", "dataset", "tables"
LARGEST_TABLE = 256 << 20  # bytes of one that is copied; of a larger one its place is told
MAX_NAME, MAX_VALUE = 250, 500  # characters of a parameter's: what MLflow 2.0 takes


@dataclass(frozen=True)
class Artefact:
    """A file of the store or of what is published, by its name there and where it is tracked."""

    folder: Target
    file: str
    name: str


@dataclass(frozen=True)
class Tracked:
    """A run, or a step of one, as a tracking server shall have it."""

    key: str  # by which it is found again, also by another attempt
    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    started: float | None = None  # seconds since the epoch
    finished: float | None = None  # None: it goes on


@dataclass(frozen=True)
class Published:
    """A model that is registered: where it lies, and what it is."""

    name: str
    url: str
    tags: dict[str, str]


def tracked_run(run: Folder, plan: Plan) -> Tracked:
    """The run itself: its method, the figures of all its evaluations, its report."""
    manifests = dict(finished_steps(run, plan))
    times = [datetime.fromisoformat(each.started).timestamp() for each in manifests.values()]
    ends = [datetime.fromisoformat(each.finished).timestamp() for each in manifests.values()]
    return Tracked(
        key=_key(run, plan, ""),
        name=plan.name,
        parameters=parameters(leaves(read_owner(run).method)) if run.exists(OWNER) else {},
        tags=_tags(run, plan) | {"selfalign.digest": plan.digest},
        points=tuple(point for name, each in manifests.items() for point in _figures(plan.step(name), each)),
        artefacts=tuple(Artefact(run, name, name) for name in (REPORT, SUMMARY) if run.exists(name)),
        started=min(times, default=None),
        finished=max(ends) if all_done(run, plan) else None,
    )


def all_done(run: Folder, plan: Plan) -> bool:
    """Whether no step of the run is left to do."""
    done, rounds = dict(finished_steps(run, plan)), rounds_of(run, plan)
    return all(step.name in done or (rounds is not None and rounds.leave_out(step)) for step in plan.steps)


def key_of_step(run: Folder, plan: Plan, name: str) -> str:
    """By which a step is found again: made anew by another method, it is another."""
    return _key(run, plan, f"{name} {plan.step_digest(name)}")


def tracked_step(run: Folder, plan: Plan, name: str, manifest: Manifest, mounts: Mapping[str, str]) -> Tracked:
    """A finished step: its curve or figures, and what people look at of what it made."""
    step = plan.step(name)
    folder = step_folder(run, step.iteration, name)
    return Tracked(
        key=key_of_step(run, plan, name),
        name=name,
        parameters=_settings(step),
        tags=_tags(run, plan)
        | {f"selfalign.{key}": value for key, value in _lineage(manifest).items()}
        | {"selfalign.iteration": str(step.iteration)},
        points=(*_curve(folder, step, manifest), *_figures(step, manifest)),
        artefacts=(*_cards(folder, step, manifest, mounts), *_tables(folder, plan, step, manifest)),
        started=datetime.fromisoformat(manifest.started).timestamp(),
        finished=datetime.fromisoformat(manifest.finished).timestamp(),
    )


def finished_steps(run: Folder, plan: Plan) -> Iterator[tuple[str, Manifest]]:
    """The steps that are done, in the order of the plan."""
    for step in plan.steps:
        manifest = read_manifest(step_folder(run, step.iteration, step.name))
        if manifest is not None:
            yield step.name, manifest


def published(run: Folder, plan: Plan) -> Published | None:
    """The model that the run has published; None before, and where it publishes none."""
    step = next((step for step in plan.steps if isinstance(step, Publish)), None)
    manifest = read_manifest(step_folder(run, step.iteration, step.name)) if step is not None else None
    if step is None or step.url is None or manifest is None:
        return None
    iteration = manifest.result["iteration"]
    model = next(each.model for each in (step, *step.earlier) if each.iteration == iteration)
    trainer = plan.trainer_of(model)
    assert trainer is not None  # a training's result is what is published
    tags = {"selfalign.digest": plan.step_digest(trainer.name), "selfalign.url": step.url}
    return Published(plan.name, step.url, _tags(run, plan) | tags | {"selfalign.iteration": str(iteration)})


def parameters(values: Iterable[tuple[str, Json]]) -> dict[str, str]:
    """Values by their paths as parameters: names of characters that MLflow takes, each once; long texts lose their end."""
    found: dict[str, str] = {}
    for path, value in values:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        name = wanted = re.sub(r"[^\w\-.]", "_", path.replace("[", ".").replace("]", ""))[:MAX_NAME].strip(".") or "_"
        number = 1
        while name in found:  # two paths that differ in other characters alone, or in their end
            number += 1
            name = f"{wanted[: MAX_NAME - 8]}_{number}"
        found[name] = text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 2]} …"
    return found


def _key(run: Folder, plan: Plan, what: str) -> str:
    """One run, in one folder, by one method, has one tracked run, whoever tracks it, however often."""
    return digest_of([run.place, plan.namespace, plan.name, plan.digest, what]).removeprefix("sha256:")[:32]


def _tags(run: Folder, plan: Plan) -> dict[str, str]:
    return {
        "selfalign.run": f"{plan.namespace}/{plan.name}",
        "selfalign.recipe": plan.recipe,
        "selfalign.version": plan.version,
        "selfalign.folder": run.place,
    }


def _lineage(manifest: Manifest) -> dict[str, str]:
    versions = {f"versions.{name}": version for name, version in manifest.versions.items()}
    reused = {"reused": "true"} if manifest.reused else {}
    return {"digest": manifest.digest, "attempt": str(manifest.attempt), "kind": manifest.kind} | versions | reused


def _settings(step: AnyStep) -> dict[str, str]:
    """What a training was told: by iterationOverrides it may be another one in each round."""
    if not isinstance(step, Train):
        return {}
    return parameters(leaves({"loss": {"type": step.loss.type} | step.loss.constants, **step.settings.model_dump()}))


def _curve(folder: Folder, step: AnyStep, manifest: Manifest) -> Iterator[Point]:
    if isinstance(step, Train):
        rows = read_parts(folder, manifest.tables[LOG], [*points.CURVES, "step", "seconds"]).to_pylist()
        yield from points.of_log(rows, datetime.fromisoformat(manifest.finished).timestamp())


def _figures(step: AnyStep, manifest: Manifest) -> Iterator[Point]:
    if isinstance(step, Evaluate):
        at = datetime.fromisoformat(manifest.finished).timestamp()
        yield from points.of_checks(manifest.result["checks"], step.iteration, at)


def _cards(folder: Folder, step: AnyStep, manifest: Manifest, mounts: Mapping[str, str]) -> Iterator[Artefact]:
    """The card of a model that a training made; of what is published, both cards, and where it all came from."""
    if isinstance(step, Train) and manifest.model is not None:
        yield Artefact(folder, f"{manifest.model}/{CARD}", f"{CARD_FOLDER}/{CARD}")
    if isinstance(step, Publish):
        for at, url in destinations(step):
            target, name = destination(url, step, mounts, at), CARD_FOLDER if at == MODEL_FIELD else DATA_CARD_FOLDER
            yield from (Artefact(target, file, f"{name}/{file}") for file in (CARD, LINEAGE))


def _tables(folder: Folder, plan: Plan, step: AnyStep, manifest: Manifest) -> Iterator[Artefact]:
    """The parts of the tables that some training learns from, unless they are too large to be copied."""
    if not isinstance(step, Generate):
        return
    trainings = [each for each in plan.steps if isinstance(each, Train)]
    learned = {ref for each in trainings for ref in learned_from(each.data) if isinstance(ref, ArtifactRef)}
    for name, entry in manifest.tables.items():
        if ArtifactRef(step=step.name, name=name) in learned and folder.size(entry.parts) <= LARGEST_TABLE:
            yield from (Artefact(folder, part, f"{TABLES}/{name}/{part.rsplit('/', 1)[-1]}") for part in entry.parts)
