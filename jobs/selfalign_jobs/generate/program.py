"""The generate step: prepare the rows, run every flow over them on Ray's engines, publish the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from selfalign_api.plan import EngineLoad, EngineSettings, Evaluate, FlowJob, Generate, ModelRef, Plan, origin_of
from selfalign_api.plan_values import Json
from selfalign_api.run_file import GenerationMeans, StepConfig
from selfalign_api.sources import Kind, ModelSource
from selfalign_jobs.generate import notes
from selfalign_jobs.generate.actors import RayWorkers
from selfalign_jobs.generate.chat import Chat, ModelChat
from selfalign_jobs.generate.classifier import log_odds, output_of, reading_of
from selfalign_jobs.generate.driver import Driver, TableJob, check_set_aside
from selfalign_jobs.generate.embed_render import EmbedRenderer
from selfalign_jobs.generate.engine import Engine
from selfalign_jobs.generate.engine_setup import EngineSpec, environment
from selfalign_jobs.generate.host import HostSetup, MakeScorer
from selfalign_jobs.generate.pair_ranker import ranker_of
from selfalign_jobs.generate.parts import Ledger, PartWriter, read_ledger
from selfalign_jobs.generate.records import PreparedRows, add_tokens
from selfalign_jobs.generate.score_render import AsTrained, Conversations, PairRenderer, ScoreRenderer
from selfalign_jobs.generate.session import engines_here, ray_session
from selfalign_jobs.generate.vllm_engine import VllmEngine
from selfalign_jobs.machine import check_driver, cpus_here
from selfalign_jobs.places.models import locate_model, model_field
from selfalign_jobs.places.store import Manifest, TableEntry
from selfalign_jobs.recipes.base import FlowDef, recipe
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.finish import finish_manifest
from selfalign_jobs.step.pair_figures import is_pairs
from selfalign_jobs.step.prepared import prepare_table

# What vLLM is asked to pool, of kinds that write nothing.
POOLS: dict[Kind, Literal["classify", "embed"]] = {
    "RewardModel": "classify",
    "Classifier": "classify",
    "Embedder": "embed",
}
MakeEngine = Callable[[EngineSpec, Path], Engine]  # tests put fakes in the place of vLLM and of the model's tokenizer


class MakeChat(Protocol):
    """Chat of a model folder, as the run gave its model; `fallback` is the chat template of one that has none of its own."""

    def __call__(self, model: Path, given: ModelSource | None, fallback: str | None = None) -> Chat: ...


@dataclass
class Generated:
    """What engine loads made: tables by name, and the figures of all attempts that contributed."""

    tables: dict[str, TableEntry] = field(default_factory=dict)
    outcomes: dict[str, Counter[tuple[str, str | None]]] = field(default_factory=dict)  # by table
    tokens: dict[str, list[int]] = field(default_factory=dict)  # role -> [in, out]
    versions: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # lineage/iteration -> digest
    active_seconds: float = 0.0  # generating, over all attempts
    start_seconds: float = 0.0  # of engines, in this attempt

    @property
    def manifest_tokens(self) -> dict[str, int]:
        """Tokens by role and direction, as the manifest has them."""
        return {
            f"{role}.{direction}": count
            for role, counts in sorted(self.tokens.items())
            for direction, count in zip(("in", "out"), counts, strict=True)
        }

    @property
    def figures(self) -> dict[str, Json]:
        """The step's figures for status and report."""
        made = sum(made for _, made in self.tokens.values())
        return {
            "records": {out: sum(outcomes.values()) for out, outcomes in self.outcomes.items()},
            "rows": {out: entry.rows for out, entry in self.tables.items()},
            "outcomes": {
                out: {
                    status if reason is None else f"{status}: {reason}": n for (status, reason), n in outcomes.items()
                }
                for out, outcomes in self.outcomes.items()
            },
            "tokens": self.manifest_tokens,
            "tokensPerSecond": round(made / self.active_seconds, 1) if self.active_seconds else 0.0,
            "seconds": {"engineStart": round(self.start_seconds, 1), "generate": round(self.active_seconds, 1)},
        }


def generate(
    context: StepContext, step: Generate, make_engine: MakeEngine = VllmEngine, make_chat: MakeChat = ModelChat.of
) -> Manifest:
    """Run a generate step to its manifest; raises Stopped, ConfigError or OSError as the contract has them."""
    started = datetime.now(UTC)
    made = run_loads(context, step.loads, step.engine, make_engine, make_chat)
    flows = recipe(context.config.plan.recipe).flows
    told: list[str] = []
    for job in (job for load in step.loads for job in load.jobs):
        told += notes.on_rows(context.folder, made.tables[job.out], flows[job.flow])
        if is_pairs(flows[job.flow].schema):
            told += notes.on_pairs(context.folder, made.tables[job.out], _outcomes(step, job, made), job.judge)
            told += notes.on_turns(context.folder, origin_of(step, job.out), context.config.plan.sources)
    return finish(context, step, started, made, made.figures, told)


def _outcomes(step: Generate, job: FlowJob, made: Generated) -> Counter[tuple[str, str | None]]:
    """What became of the records of a table, those that ended before their rows came to this load too."""
    outcomes = Counter(made.outcomes[job.out])
    origin = origin_of(step, job.out)
    if origin is not job:
        outcomes += Counter({how: number for how, number in made.outcomes[origin.out].items() if how[0] != "rows"})
    return outcomes


def finish(
    context: StepContext,
    step: Generate | Evaluate,
    started: datetime,
    made: Generated,
    result: dict[str, Json],
    told: Sequence[str],
) -> Manifest:
    """Finish the manifest of a step of engine loads: from here on it is done."""
    return finish_manifest(
        context,
        step,
        started,
        active_seconds=made.active_seconds,
        tables=made.tables,
        versions=made.versions,
        models=made.models,
        tokens=made.manifest_tokens,
        result=result,
        notes=told,
    )


def run_loads(
    context: StepContext,
    loads: Sequence[EngineLoad],
    settings: EngineSettings,
    make_engine: MakeEngine = VllmEngine,
    make_chat: MakeChat = ModelChat.of,
) -> Generated:
    """Engine loads one after another; a later one may read the tables of an earlier one (`context.tables`).

    What is durable is read first: a load whose records are all durable starts no engine, and without any there is no Ray.
    """
    made = Generated()
    plan, all_means = context.config.plan, means_of(context.config)
    with ExitStack() as session:
        has_ray = False
        for load in loads:
            flows = {job.out: recipe(plan.recipe).flows[job.flow] for job in load.jobs}
            tables = {job.out: _table_job(context, job, flows[job.out]) for job in load.jobs}
            if not all(all(table.writer.ledger.done) for table in tables.values()):
                given = plan.given(load.model)
                tokens = load.max_model_tokens or settings.max_model_tokens
                kind = plan.kind_of(load.model)
                origin = plan.origin(load.model)
                means = all_means.of(origin)
                if kind == "PairRanker":  # it runs on one GPU
                    means = means.model_copy(update={"tensor_parallel_size": 1})
                here = engines_here(all_means, origin, context.gang)
                spec = EngineSpec(
                    settings=settings.model_copy(update={"max_model_tokens": tokens}),
                    means=means,
                    trust_remote_code=given.remote_code,
                    pools=POOLS.get(kind),
                    field=model_field(origin),
                    engines_here=here,
                )
                setup = HostSetup(
                    means=means,
                    locate=partial(_locate, context.config, load.model, means),
                    make_chat=partial(make_chat, given=given, fallback=load.chat_template),
                    make_engine=partial(_make_engine, _make_ranker if kind == "PairRanker" else make_engine, spec),
                    make_scorer=_scorer(kind, given, spec.field, trained=plan.trainer_of(load.model) is not None),
                    jobs={job.out: job for job in load.jobs},
                    flows=flows,
                    run_seed=plan.seed,
                    environment=partial(_environment, means, here),
                )
                context.progress.begin("engine start", means.replicas, "engines")
                if not has_ray:
                    session.enter_context(ray_session(all_means, context.gang))
                    has_ray = True
                driver = _drive(context, setup, tables, settings)
                made.start_seconds += driver.start_seconds
                made.versions |= driver.versions
            for out, table in tables.items():
                check_set_aside(table, settings.max_set_aside_percent)
                _add(made, out, table.writer.ledger)
                context.tables[out] = table.writer.ledger.entry
            made.models[f"{load.model.lineage}/{load.model.iteration}"] = _model_digest(plan, load.model)
    return made


def _scorer(kind: Kind, given: ModelSource | None, field: str, *, trained: bool) -> MakeScorer | None:
    """What makes the renderer of a model that scores, one that the run `trained` or a helper; None for one that writes."""
    if kind == "Causal":
        return None
    if kind == "Embedder":
        return EmbedRenderer.of
    if kind == "PairRanker":
        return lambda model, _: PairRenderer(ranker_of(model, field)[1])
    if kind == "Classifier":
        assert given is not None and given.label is not None
        return partial(_classifier, given, given.label, field)
    reading = AsTrained if trained else Conversations
    return lambda model, context: ScoreRenderer(reading(ModelChat.of(model, given)), context)


def _classifier(given: ModelSource, label: str, field: str, model: Path, context: int) -> ScoreRenderer:
    number = output_of(model, label, field)
    return ScoreRenderer(reading_of(model, given), context, lambda scores: log_odds(scores.logits, number))


def _table_job(context: StepContext, job: FlowJob, flow: FlowDef) -> TableJob:
    config = context.config
    rows = PreparedRows(prepare_table(context, job.rows, job.out), job.out, config.plan.step_digest(config.step))
    ledger = read_ledger(context.folder, rows, config.attempt)
    return TableJob(job.out, job.flow, rows, PartWriter(context.folder, job.out, flow.schema, config.attempt, ledger))


def _make_ranker(spec: EngineSpec, model: Path) -> Engine:
    from selfalign_jobs.generate.ranker_engine import RankerEngine

    return RankerEngine(spec, model)


def _make_engine(make: MakeEngine, spec: EngineSpec, model: Path, engines: int) -> Engine:
    """One of several engines that share a GPU has its part of the memory."""
    means = spec.means.model_copy(update={"gpu_memory_percent": spec.means.gpu_memory_percent // engines})
    return make(replace(spec, means=means), model)


def _locate(config: StepConfig, model: ModelRef, means: GenerationMeans) -> Path:
    """The model on an actor's node, once that can run an engine at all. Raises ConfigError."""
    if means.device == "GPU":
        check_driver()
    return locate_model(config, model)


def _environment(means: GenerationMeans, engines_here: int) -> dict[str, str]:
    """Of an actor, asked for on its own node: its engine has a share of the CPUs there."""
    return environment(means, max(1, cpus_here() // engines_here))


def _drive(
    context: StepContext,
    setup: HostSetup,
    tables: dict[str, TableJob],
    settings: EngineSettings,
) -> Driver:
    workers = RayWorkers(setup)
    driver = Driver(tables, workers, context.progress, context.stop, settings.max_set_aside_percent)
    try:
        driver.run()
    finally:
        workers.close()
    return driver


def means_of(config: StepConfig) -> GenerationMeans:
    """The engines that the step runs on."""
    return config.means.evaluation if isinstance(config.plan.step(config.step), Evaluate) else config.means.generation


def _add(made: Generated, out: str, ledger: Ledger) -> None:
    made.tables[out] = ledger.entry
    made.outcomes[out] = ledger.outcomes
    made.active_seconds += ledger.seconds
    add_tokens(made.tokens, ledger.tokens)


def _model_digest(plan: Plan, model: ModelRef) -> str:
    trainer = plan.trainer_of(model)
    return plan.models[model.lineage].digest if trainer is None else plan.step_digest(trainer.name)
