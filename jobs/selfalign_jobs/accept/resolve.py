"""From the user's run to the plan: recipe's defaults, the files that are named, digests, and where it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selfalign_api import __version__
from selfalign_api.digest import DIGEST_FIELDS, method_digest
from selfalign_api.digest import method_of as digested_method
from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.load import as_json, read_file
from selfalign_api.machine import Device
from selfalign_api.merge import merge
from selfalign_api.method import Output
from selfalign_api.places import absolute
from selfalign_api.plan import (
    AnyStep,
    ArtifactRef,
    EngineSettings,
    Gate,
    Judge,
    Plan,
    Publish,
    Role,
    Round,
    Train,
    models_of,
)
from selfalign_api.plan_values import Json
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.sources import Kind, ModelSource
from selfalign_api.training_values import Lora, Loss, Optimizer, TrainSettings
from selfalign_jobs.accept.foreseen import foreseen
from selfalign_jobs.accept.sources import path_of, source_names, source_of
from selfalign_jobs.places.models import POLICY, GivenModel, given_model, model_field
from selfalign_jobs.places.sources import here
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.method import (
    Draw,
    Evaluation,
    EvaluationCheck,
    Filters,
    IterationPolicy,
    Judging,
    Method,
    Override,
    Training,
)
from selfalign_jobs.recipes.tables import learned_from

DEFAULT_CHECKS = [{"name": "win", "type": "SelfWinRate"}]
NEAR_DUPLICATES: dict[str, dict[str, Json]] = {  # by method
    "Exact": {},
    "MinHash": {"threshold": 0.78, "ngram": 1},
    "Embedding": {"threshold": 0.96},
}


@dataclass(frozen=True)
class Resolved:
    """A run with nothing left out: its plan, and the method's values in the spec's own shape (for owner and report)."""

    plan: Plan
    method: Method
    values: dict[str, Json]
    models: Mapping[str, GivenModel]  # by lineage, as the plan has them
    rows: Mapping[str, int] = field(default_factory=dict)  # of the sources, once they are looked at
    looked_at: tuple[str, ...] = ()  # what of model and tables deserves a second look

    @property
    def notes(self) -> tuple[str, ...]:
        """What deserves a second look already."""
        return (*self.looked_at, *foreseen(self.plan, self.rows))


def resolve(run: SelfAlignmentRun, device: Device, mounts: Mapping[str, str], folder: Path) -> Resolved:
    """The plan of a run on this machine. `folder` is what `./PATH` is relative to (the run file's).

    Raises ConfigError for places, files, values and recipes that cannot be.
    """
    values = method_values(run, device, mounts, folder)
    method = method_of(values)
    _overrides(method)
    _early_end(method)
    sources = {name: source_of(name, values, mounts, folder) for name in source_names(method)}
    found = {POLICY: _model(POLICY, values["model"], mounts, folder)}
    found |= {given["name"]: _model(given["name"], given, mounts, folder) for given in _helpers(values)}
    models = {POLICY: _model_source(found[POLICY], values["model"])}
    models |= {given["name"]: _model_source(found[given["name"]], given) for given in _helpers(values)}
    steps = recipe(method.recipe).plan(method)
    _used(models, steps)
    digests = {model_field(lineage).removeprefix("spec."): model.digest for lineage, model in models.items()}
    digests |= {path_of(name): s.digest for name, s in sources.items() if s.url is not None}
    plan = Plan(
        version=__version__,
        name=run.metadata.name,
        namespace=run.metadata.namespace,
        recipe=method.recipe,
        seed=method.seed,
        digest=method_digest(values, digests),
        models=models,
        sources=sources,
        steps=(*steps, *publish_steps(steps, run.spec.output, method.evaluation, folder, recipe(method.recipe).beside)),
    )
    return Resolved(plan, method, digested_method(values, digests), found)


def _helpers(values: Mapping[str, Json]) -> list[dict[str, Json]]:
    found: list[dict[str, Json]] = values.get("auxiliaryModels", [])
    return found


def _model(lineage: str, given: Mapping[str, Json], mounts: Mapping[str, str], folder: Path) -> GivenModel:
    with refused_as("ModelNotFound"):
        return given_model(given["url"], mounts, folder, model_field(lineage))


def _model_source(found: GivenModel, given: Mapping[str, Json]) -> ModelSource:
    return ModelSource(
        url=found.url,
        digest=found.digest,
        chat_template=given.get("chatTemplate"),
        chat_template_kwargs=given.get("chatTemplateKwargs", {}),
        remote_code=given.get("remoteCode") == "Allow",
        kind=given.get("kind", "Causal"),
        label=given.get("label"),
    )


def _scorer(values: Mapping[str, Json]) -> Kind | None:
    """What kind of scoring model judges. ConfigError where the judge's method, the recipe's own perhaps, is of another kind."""
    judge = values["judge"]
    kind = {helper["name"]: helper["kind"] for helper in _helpers(values)}.get(judge.get("modelName"), "Causal")
    if (judge["method"] == "score") != (kind != "Causal"):
        message = (
            f"is {judge['method']} where it is not written, and the judge is of kind {kind}; write judge.method: "
            f"{'logprobs' if kind == 'Causal' else 'score'}"
        )
        raise ConfigError.one("spec.judge.method", message)
    return None if kind == "Causal" else kind


def _used(models: Mapping[str, ModelSource], steps: Sequence[AnyStep]) -> None:
    """ConfigError for helpers that no step loads."""
    loaded = {POLICY, *(ref.lineage for step in steps for ref in models_of(step))}
    problems = [
        Problem(
            model_field(name).removesuffix(".url"),
            None,
            f"nothing of this run uses it; write judge.modelName: {name}, or remove it",
        )
        for name in models
        if name not in loaded
    ]
    if problems:
        raise ConfigError(problems)


def _overrides(method: Method) -> None:
    """ConfigError for an override that no iteration reaches. Where iterations is written, a rule has said it."""
    for override in method.training.overrides:
        if override.from_iteration > method.iterations:
            message = (
                f"starts after the last iteration: {method.recipe} makes {method.iterations} where spec.iterations is not "
                f"written; write iterations: {override.from_iteration}, or lower fromIteration"
            )
            raise ConfigError.one(f"spec.training.iterationOverrides[{override.from_iteration}]", message)


def _early_end(method: Method) -> None:
    """ConfigError for a loop that is too short to end early. Where iterations is written, a rule has said it."""
    worse = method.evaluation.stop_after_worse
    if worse is not None and method.iterations < worse + 2:
        message = (
            f"the loop is over before it could end early: {method.recipe} makes {method.iterations} where spec.iterations is "
            f"not written; write iterations: {worse + 2} or more, or remove stopAfterWorse"
        )
        raise ConfigError.one("spec.evaluation.stopAfterWorse", message, worse)


def publish_steps(
    steps: Sequence[AnyStep],
    output: Output | None,
    evaluation: Evaluation,
    folder: Path,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Publish, ...]:
    """The step that copies a model and the pairs that it was trained on, once the gates are passed.

    `folder` is what a relative place is relative to; `beside` are the lineages that are published too, with their folders.
    None where nothing of it is asked for; with gates or a check to select by alone it copies nothing. Raises ConfigError
    for an adapter that would sit on a model of a former round, which only the run's folder has.
    """
    output = output or Output()
    if not (output.url or output.dataset_url or evaluation.gates or evaluation.select_by):
        return ()
    trained = [step for step in steps if isinstance(step, Train) and step.result.lineage == "policy"]
    earlier, last = (trained[:-1] if evaluation.select_by else []), trained[-1]
    url, dataset_url = (url and absolute(url, folder) for url in (output.url, output.dataset_url))
    adapter = output.adapter or "Merge"
    for step in (*earlier, last):
        if adapter == "Keep" and step.start.iteration > 0:
            message = (
                f"the adapter of round {step.iteration} sits on the model of round {step.start.iteration}, not on the given "
                "one; write iteration: {start: initial}, or iterations: 1, or adapter: Merge"
            )
            raise ConfigError.one("spec.output.adapter", message, adapter)
    return (
        Publish(
            name="publish" if url or dataset_url else "gates" if evaluation.gates else "select",
            **dict(_round(last)),
            url=url,
            dataset_url=dataset_url,
            adapter=adapter,
            visibility=output.visibility or "Private",
            gates=evaluation.gates,
            select_by=evaluation.select_by,
            stop_after_worse=evaluation.stop_after_worse,
            earlier=tuple(map(_round, earlier)),
            beside={
                beside[step.result.lineage]: step.result
                for step in steps
                if url and isinstance(step, Train) and step.result.lineage in beside
            },
        ),
    )


def _round(step: Train) -> Round:
    pairs = tuple(ref for ref in learned_from(step.data) if isinstance(ref, ArtifactRef))
    return Round(iteration=step.iteration, model=step.result, pairs=pairs)


def method_values(run: SelfAlignmentRun, device: Device, mounts: Mapping[str, str], folder: Path) -> dict[str, Json]:
    """The method in the spec's own shape: the recipe's values under the user's, templates read, precision named."""
    spec = run.spec
    found = recipe(spec.recipe)
    given = {part: value for part, value in as_json(spec).items() if part in DIGEST_FIELDS}
    defaults = found.defaults_for(given)
    precision = {"precision": "float32" if device == "CPU" else "bfloat16"}
    floor = {
        "seed": 0,
        "generation": precision,
        "training": precision | {"overlong": "Drop", "adapter": "none"},
        "evaluation": {"when": "EachIteration"},
    }
    values: dict[str, Json] = merge(merge(floor, defaults), given)
    values["evaluation"].setdefault("checks", DEFAULT_CHECKS)
    filters = values["generation"]["filters"]
    if (near := filters.get("nearDuplicates")) is not None:
        method = near.get("method", "MinHash")
        filters["nearDuplicates"] = {"method": method} | NEAR_DUPLICATES[method] | near
    for helper in _helpers(values):
        helper.setdefault("kind", "Causal")
    for role in values["generation"]["roles"]:
        if url := role.pop("templateUrl", None):
            role["template"] = _text(f"spec.generation.roles[{role['name']}].templateUrl", url, mounts, folder)
    if url := values["model"].pop("chatTemplateUrl", None):
        values["model"]["chatTemplate"] = _text("spec.model.chatTemplateUrl", url, mounts, folder)
    return values


def method_of(values: Mapping[str, Json]) -> Method:
    """The typed method of these values."""
    v = _snake(values)
    generation, training, evaluation = v["generation"], v["training"], v["evaluation"]
    kinds = {helper["name"]: helper["kind"] for helper in _helpers(values)}
    judge = Judge(
        **{k: tuple(x) if isinstance(x, list) else x for k, x in v["judge"].items() if k != "model_name"},
        scorer=_scorer(values),
    )
    return Method(
        recipe=v["recipe"],
        iterations=v["iterations"],
        seed=v["seed"],
        data={
            kind: Draw(given="url" in source, count=source.get("count"), draw=source["draw"])
            for kind, source in v["data"].items()
        },
        roles={r["name"]: Role(**{k: x for k, x in r.items() if k != "name"}) for r in generation["roles"]},
        filters=Filters(**generation["filters"]),
        engine=EngineSettings(
            precision=generation["precision"],
            max_model_tokens=generation.get("max_model_tokens"),
            max_set_aside_percent=generation["max_set_aside_percent"],
        ),
        judge=judge,
        judge_model=v["judge"].get("model_name", "self"),
        helpers=kinds,
        iteration=IterationPolicy(**{"max_new_pairs": None} | v["iteration"]),
        training=Training(
            loss=Loss(**training["loss"]),
            settings=_settings(training, v["seed"]),
            overrides=tuple(Override(**o) for o in training.get("iteration_overrides", ())),
            stages={s["name"]: _settings(merge(training, s), v["seed"]) for s in training.get("stages", ())},
        ),
        evaluation=Evaluation(
            when=evaluation["when"],
            prompts_given="prompts" in evaluation,
            checks=tuple(_check(check, judge, kinds) for check in evaluation["checks"]),
            select_by=evaluation.get("select_by"),
            stop_after_worse=evaluation.get("stop_after_worse"),
            gates=tuple(Gate(**gate) for gate in evaluation.get("gates", ())),
        ),
        options=v.get(v["recipe"], {}),
    )


def _settings(training: Mapping[str, Any], seed: int) -> TrainSettings:
    """The settings of the main training, or of a further one laid over it."""
    own = {"name", "stages", "loss", "iteration_overrides", "adapter", "lora", "optimizer"}
    return TrainSettings(
        **{field: value for field, value in training.items() if field not in own},
        optimizer=Optimizer(**training.get("optimizer", {})),
        lora=Lora(**training.get("lora", {})) if training["adapter"] == "lora" else None,
        seed=seed,
    )


def _check(check: Mapping[str, Any], run: Judge, kinds: Mapping[str, Kind]) -> EvaluationCheck:
    """A check as it is written; `run` is the judge whose verdicts and criteria its own goes by."""
    temperatures = check.get("exact_match", {}).get("temperatures", (0.0, 1.0)) if check["type"] == "ExactMatch" else ()
    rate, judge = check.get("self_win_rate", {}), check.get("judge")
    return EvaluationCheck(
        name=check["name"],
        type=check["type"],
        temperatures=tuple(temperatures),
        against="answers" if "answers" in rate else rate.get("against", "initial"),
        format=check.get("export", {}).get("format"),
        judging=None if judge is None else _judging(judge, run, kinds.get(judge["model_name"], "Causal")),
    )


def _judging(given: Mapping[str, Any], run: Judge, kind: Kind) -> Judging:
    scorer = None if kind == "Causal" else kind
    method = given.get("method", "logprobs" if scorer is None else "score")
    judge = Judge(
        method=method,
        verdicts=run.verdicts,
        criteria=run.criteria,
        tie_margin=given.get("tie_margin", 0.0),
        scorer=scorer,
    )
    return Judging(model_name=given["model_name"], judge=judge)


def _snake(value: Json) -> Json:
    """Keys of the API in Python's spelling; values as they are."""
    if isinstance(value, Mapping):
        return {
            re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m[1].lower(), key): _snake(x) for key, x in value.items()
        }
    if isinstance(value, list | tuple):
        return [_snake(x) for x in value]
    return value


def _text(field: str, url: str, mounts: Mapping[str, str], folder: Path) -> str:
    path = here(url, mounts, folder, field)
    if not path.is_file():
        raise ConfigError.one(field, f"there is no file {path}; write the URL of a Jinja template", url)
    try:
        return read_file(path)
    except ConfigError as error:
        raise ConfigError.one(field, str(error), url) from error
