"""The plan: what a run does, as typed steps with typed inputs and outputs.

A recipe turns a spec into a `Plan` (pure); the local runner and the operator execute plans and know no recipe; the step
programs read the same plan from a JSON file. Everything is resolved here: no field of a plan means "the default".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.plan_values import ADDED, Frozen, Json
from selfalign_api.sources import DataSource, Kind, ModelSource
from selfalign_api.training_values import Loss, TrainSettings

# --- references -------------------------------------------------------------------------------------------------------


class ModelRef(Frozen):
    """A model of the run. Iteration 0 is the model as given; iteration k is what a `Train` step of the plan makes."""

    lineage: str = "policy"
    iteration: int = Field(default=0, ge=0)


class ArtifactRef(Frozen):
    """A table that an earlier step writes."""

    ref: Literal["artifact"] = "artifact"
    step: str
    name: str


class SourceRef(Frozen):
    """A table that the user gives (`Plan.sources`) or that a built-in generator makes."""

    ref: Literal["source"] = "source"
    name: str


TableRef = Annotated[ArtifactRef | SourceRef, Field(discriminator="ref")]


class Prepare(Frozen):
    """A pure function over whole tables (Arrow in, Arrow out), run by the step that consumes its result.

    Whatever one record cannot see belongs here: joins, duplicates, decontamination, windows, quotas, pairing.
    """

    fn: str
    inputs: tuple[TableRef, ...] = ()
    options: dict[str, Json] = {}


# --- generation -------------------------------------------------------------------------------------------------------


class Role(Frozen):
    """One voice of a recipe: its template (Jinja; None: the text itself is the user's turn) and its sampling."""

    template: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024
    output_prefix: str | None = None
    reasoning: Literal["Keep", "Strip"] = "Keep"
    stop: Annotated[tuple[str, ...], ADDED] = ()  # texts after which it is done


class Judge(Frozen):
    """How two answers are compared; `verdicts` are the two candidate verdicts (Jinja over prompt, first, second)."""

    method: Literal["logprobs", "generate", "paper", "score", "random"] = "logprobs"
    verdicts: tuple[str, str]
    criteria: tuple[str, ...] = ()
    tie_margin: float = 0.0
    scorer: Annotated[Literal["RewardModel", "PairRanker", "Classifier"] | None, ADDED] = None  # of method score
    min_score_gap: Annotated[float | None, ADDED] = None  # in the scorer's units


class FlowJob(Frozen):
    """One flow over one table: `rows` go in, the table `out` comes out.

    `roles` and `judge` are what the flow's requests are rendered and sampled with; `options` are the flow's own.
    """

    flow: str
    rows: Prepare
    out: str
    roles: dict[str, Role] = {}
    judge: Judge | None = None
    options: dict[str, Json] = {}


class EngineLoad(Frozen):
    """One model, one engine load, several flows."""

    model: ModelRef
    task: Literal["text", "score", "embed"] = "text"
    jobs: tuple[FlowJob, ...]
    max_model_tokens: Annotated[int | None, ADDED] = None  # where this model's context is not that of the step's engine
    chat_template: Annotated[str | None, ADDED] = None  # of a model that has none of its own


class EngineSettings(Frozen):
    """What of the engine is method, not means: it changes the numbers."""

    precision: Literal["bfloat16", "float16", "float32", "fp8"] = "bfloat16"
    head_precision: Literal["float32"] = "float32"  # of the logits, whose differences are verdicts
    max_model_tokens: int | None = None  # None, of an older version's plan: the model's own context
    max_set_aside_percent: float = 1.0


class Generate(Frozen):
    """Write, answer and judge: an engine load for each model, one after another; its tables are the `out` of their jobs."""

    kind: Literal["generate"] = "generate"
    name: str
    iteration: int
    load: EngineLoad
    then: Annotated[tuple[EngineLoad, ...], ADDED] = ()  # of other models, which read the tables of those before them
    engine: EngineSettings = EngineSettings()

    @property
    def loads(self) -> tuple[EngineLoad, ...]:
        """The engine loads of the step, in order."""
        return (self.load, *self.then)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tables that the step writes."""
        return tuple(job.out for load in self.loads for job in load.jobs)


# --- training ---------------------------------------------------------------------------------------------------------


class Train(Frozen):
    """Train `start` on the table that `data` prepares into `result`."""

    kind: Literal["train"] = "train"
    name: str
    iteration: int
    stage: str | None = None  # which of the recipe's further trainings (training.stages); None: the main one
    objective: Literal["preference", "sft", "reward", "gap"] = "preference"
    loss: Loss
    data: Prepare
    start: ModelRef
    reference: ModelRef | None = None
    result: ModelRef
    settings: TrainSettings

    @property
    def rows(self) -> str:
        """What the rows that it learns from are called."""
        return {"preference": "pairs", "sft": "targets", "reward": "rewards", "gap": "gaps"}[self.objective]

    @property
    def outputs(self) -> tuple[str, ...]:
        """A training writes its model and no table that others read."""
        return ()


# --- evaluation -------------------------------------------------------------------------------------------------------


class Check(Frozen):
    """One figure of an evaluation, from two tables: the answers that it compares with, of the initial model, and the new one's."""

    name: str
    type: Literal["ExactMatch", "SelfWinRate", "Benchmark", "Export"]  # the last: a file of answers, and no figure
    before: TableRef
    after: ArtifactRef
    verdicts: ArtifactRef | None = None  # SelfWinRate: the table of verdicts, made by an engine load of this step
    temperatures: tuple[float, ...] = ()
    against: Annotated[Literal["previous", "answers"] | None, ADDED] = None  # of a win rate; None: the initial model
    format: Annotated[Literal["AlpacaEval", "ArenaHard", "MTBench"] | None, ADDED] = None  # of an Export

    @property
    def has_questions(self) -> bool:
        """Whether it asks its own, and not the held-out prompts of the run."""
        return self.type == "Benchmark" or self.format == "MTBench"


class Evaluate(Frozen):
    """Answers and verdicts by the engine loop (one load a model), then statistics."""

    kind: Literal["evaluate"] = "evaluate"
    name: str
    iteration: int
    loads: tuple[EngineLoad, ...]
    engine: EngineSettings = EngineSettings()
    checks: tuple[Check, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tables that the step writes."""
        return tuple(job.out for load in self.loads for job in load.jobs)


# --- publishing -------------------------------------------------------------------------------------------------------


class Gate(Frozen):
    """What a figure of a check must be at the least."""

    check: str
    figure: Literal["value", "gain", "low"]
    at_least: float


class Round(Frozen):
    """The policy of an iteration, and the tables of pairs that it was trained on."""

    iteration: int
    model: ModelRef
    pairs: tuple[ArtifactRef, ...]


class Publish(Round):
    """Copy a round to where the user wants it, once the gates are passed: the last one, or the best of all by a check."""

    kind: Literal["publish"] = "publish"
    name: str = "publish"
    url: str | None  # of the model's folder; None: it is not asked for
    dataset_url: str | None
    adapter: Literal["Merge", "Keep"] = "Merge"  # Keep: the model's adapter alone
    visibility: Annotated[Literal["Private", "Public"], ADDED] = "Private"  # of a repository that is made on the hub
    gates: Annotated[tuple[Gate, ...], ADDED] = ()  # of the evaluation of its iteration
    select_by: Annotated[str | None, ADDED] = None  # the check whose value decides
    stop_after_worse: Annotated[int | None, ADDED] = None  # rounds in a row without a better value that end the loop
    earlier: Annotated[tuple[Round, ...], ADDED] = ()  # the rounds that may be better
    beside: Annotated[dict[str, ModelRef], ADDED] = {}  # further models, by their folder below `url`

    @property
    def outputs(self) -> tuple[str, ...]:
        """It makes copies, and no table that others read."""
        return ()


AnyStep = Generate | Train | Evaluate | Publish
Step = Annotated[AnyStep, Field(discriminator="kind")]


# --- the plan ---------------------------------------------------------------------------------------------------------


# What a model gives: text, a score, how two answers compare, numbers of labels, a vector.


class Plan(Frozen):
    """A resolved run."""

    version: str
    name: str
    namespace: str = "default"
    recipe: str
    seed: int
    digest: str  # of the method and of the content of every source (api.md)
    models: dict[str, ModelSource]  # by lineage, as given: iteration 0
    sources: dict[str, DataSource]
    steps: tuple[Step, ...]

    @cached_property
    def _by_name(self) -> dict[str, AnyStep]:
        return {step.name: step for step in self.steps}

    def step(self, name: str) -> AnyStep:
        """The step of that name; KeyError with the names that there are."""
        if name not in self._by_name:
            raise KeyError(f"the plan has no step {name}; it has {', '.join(self._by_name)}")
        return self._by_name[name]

    def trainer_of(self, model: ModelRef) -> Train | None:
        """The step that makes this model; None for a model as given (iteration 0)."""
        for step in self.steps:
            if isinstance(step, Train) and step.result == model:
                return step
        return None

    def origin(self, model: ModelRef) -> str:
        """The name, in `models`, of what this one was trained from, by however many trainings: its own, where none made it."""
        while (trainer := self.trainer_of(model)) is not None:
            model = trainer.start
        return model.lineage

    def given(self, model: ModelRef) -> ModelSource:
        """The model as given that this one was trained from."""
        return self.models[self.origin(model)]

    def kind_of(self, model: ModelRef) -> Kind:
        """What this model gives: as it was given, or of one that the run trains, by what it is trained for."""
        trainer = self.trainer_of(model)
        if trainer is None:
            return self.models[model.lineage].kind
        return "RewardModel" if trainer.objective in ("reward", "gap") else "Causal"

    def step_digest(self, name: str) -> str:
        """Digest of all that a step's result depends on: its own config, and the digests of its inputs, recursively."""
        if name not in self._digests:
            self._digests[name] = self._digest_of_step(self.step(name))
        return self._digests[name]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}

    def _digest_of_step(self, step: AnyStep) -> str:
        content = {
            "step": step.model_dump(mode="json", exclude={"name", "stage"}),  # names: no result depends on them
            "artifacts": sorted(
                f"{r.name}={self.step_digest(r.step)}" for r in artifacts_of(step) if r.step != step.name
            ),
            "sources": {r.name: self.sources[r.name].identity for r in sources_of(step)},
            "models": [self._model_digest(model) for model in models_of(step)],
            "seed": self.seed,
        }
        return digest_of(content)

    def _model_digest(self, model: ModelRef) -> Json:
        trainer = self.trainer_of(model)
        if trainer is not None:
            return self.step_digest(trainer.name)
        return self.models[model.lineage].identity


# --- looking at steps -------------------------------------------------------------------------------------------------


def prepares_of(step: AnyStep) -> Iterator[Prepare]:
    """Every table that a step prepares."""
    if isinstance(step, Publish):
        return
    if isinstance(step, Train):
        yield step.data
        return
    for load in step.loads:
        for job in load.jobs:
            yield job.rows


def artifacts_of(step: AnyStep) -> Iterator[ArtifactRef]:
    """Every table of any step (its own second load included) that a step reads."""
    for prepare in prepares_of(step):
        yield from (ref for ref in prepare.inputs if isinstance(ref, ArtifactRef))
    if isinstance(step, Publish):
        yield from dict.fromkeys(ref for each in (step, *step.earlier) for ref in each.pairs)
    if isinstance(step, Evaluate):
        for check in step.checks:
            refs = (check.before, check.after, check.verdicts)
            yield from (ref for ref in refs if isinstance(ref, ArtifactRef))


def sources_of(step: AnyStep) -> Iterator[SourceRef]:
    """Every table of the user's that a step reads."""
    for prepare in prepares_of(step):
        yield from (ref for ref in prepare.inputs if isinstance(ref, SourceRef))


def job_of(step: Generate | Evaluate, table: str) -> FlowJob:
    """The job that makes a table of the step."""
    (job,) = (job for load in step.loads for job in load.jobs if job.out == table)
    return job


def origin_of(step: Generate | Evaluate, table: str) -> FlowJob:
    """The job whose rows came into the step, and of whose records a table of it was made, load after load."""
    job = job_of(step, table)
    before = [ref.name for ref in job.rows.inputs if isinstance(ref, ArtifactRef) and ref.step == step.name]
    return origin_of(step, before[0]) if before else job


def models_of(step: AnyStep) -> tuple[ModelRef, ...]:
    """Every model that a step loads, or copies."""
    if isinstance(step, Publish):
        return (step.model, *(each.model for each in step.earlier), *step.beside.values())
    if isinstance(step, Train):
        return (step.start,) if step.reference is None else (step.start, step.reference)
    return tuple(load.model for load in step.loads)


def digest_of(content: Json) -> str:
    """`sha256:…` of the canonical JSON: sorted keys, no spaces, floats in their shortest form, 1.0 written as 1."""
    text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
