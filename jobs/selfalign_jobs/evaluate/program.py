"""The evaluate step: the new model answers, the initial one judges, and the checks are computed from their tables."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, Check, Evaluate, Judge, SourceRef
from selfalign_jobs.evaluate.benchmark import benchmark_figures, score
from selfalign_jobs.evaluate.checks import Figures, exact_match_figures, win_rate_figures
from selfalign_jobs.evaluate.exports import alpaca_eval, arena_hard, export_file, mt_bench
from selfalign_jobs.flow import seed_of
from selfalign_jobs.generate import notes
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.program import MakeChat, MakeEngine, finish, run_loads
from selfalign_jobs.generate.vllm_engine import VllmEngine
from selfalign_jobs.places.sources import field_of, none_answered, task_folder
from selfalign_jobs.places.store import Manifest
from selfalign_jobs.recipes.own_questions import BENCHMARK
from selfalign_jobs.step import points, second_look
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.events import Events
from selfalign_jobs.step.prepared import read_input


def evaluate(
    context: StepContext, step: Evaluate, make_engine: MakeEngine = VllmEngine, make_chat: MakeChat = ModelChat.of
) -> Manifest:
    """Run an evaluate step to its manifest; `result.checks` has each figure with its 95 % interval. Exports are written first.

    Raises Stopped, ConfigError or OSError as the contract has them.
    """
    started = datetime.now(UTC)
    made = run_loads(context, step.loads, step.engine, make_engine, make_chat)
    checks: Figures = {}
    for check in step.checks:
        if check.type == "Export":
            context.run.write(export_file(check), _exported(context, step, check))
        elif check.type == "Benchmark":
            checks |= _benchmark(context, step, check)
        else:
            checks |= figures_of(context, step, check)
    events = Events(context.folder, context.config.attempt)
    events.add(points.of_checks(checks, step.iteration, time.time()))
    events.close()
    told = [*second_look.on_results(checks), *dict.fromkeys(_notes(context, step))]
    return finish(context, step, started, made, {"checks": checks} | made.figures, told)


def _exported(context: StepContext, step: Evaluate, check: Check) -> bytes:
    answers, plan = read_input(context, check.after), context.config.plan
    if check.format == "MTBench":
        return mt_bench(answers, plan, step.iteration, time.time())
    if check.format == "ArenaHard":
        questions = read_input(context, SourceRef(name="evaluation"))
        return arena_hard(answers, questions, plan, step.iteration, time.time())
    return alpaca_eval(answers, plan, step.iteration)


def _notes(context: StepContext, step: Evaluate) -> Iterator[str]:
    """How the judge judged, and how long the answers of both models are."""
    for verdicts in dict.fromkeys(check.verdicts for check in step.checks if check.verdicts is not None):
        yield from notes.on_judging(context.folder, context.tables[verdicts.name], _judge_of(step, verdicts))
    for check in step.checks:
        if check.type == "Benchmark":
            asked = context.folder.read_table(f"prepared/{check.after.name}.parquet").num_rows
            made = read_input(context, check.after, ("fills",))
            yield from second_look.on_benchmark(check.name, asked, made.num_rows, pc.sum(made["fills"]).as_py() or 0)
    for before, after in dict.fromkeys((check.before, check.after) for check in step.checks if not check.has_questions):
        if isinstance(before, ArtifactRef):  # a file does not say how many tokens
            yield from notes.on_answers(read_input(context, before), read_input(context, after))
    for check in step.checks:
        if check.verdicts is not None and check.against == "answers":
            yield from second_look.on_unanswered(check.name, _asked(context, check), compared(context, check).num_rows)


def _benchmark(context: StepContext, step: Evaluate, check: Check) -> Figures:
    """The figures of a Benchmark; the harness's own accounts of both models are kept beside the step's tables."""
    name, config = BENCHMARK.source + check.name, context.config
    source = config.plan.sources[name]
    assert source.benchmark is not None
    folder = None if source.url is None else task_folder(name, source.url, config.mounts)
    found = {
        part: score(source.benchmark, folder, field_of(name), read_input(context, table))
        for part, table in (("before", check.before), ("after", check.after))
    }
    account = {part: told for part, (_, told) in found.items()}
    context.folder.write(f"benchmarks/{check.name}.json", json.dumps(account, indent=1).encode())
    seed = seed_of(config.plan.seed, step.name)
    return benchmark_figures(check.name, found["before"][0], found["after"][0], seed)


def compared(context: StepContext, check: Check) -> pa.Table:
    """The answers that were judged for a win rate: a prompt, and what is compared `before` and `after`."""
    assert check.verdicts is not None
    return context.folder.read_table(f"prepared/{check.verdicts.name}.parquet")


def _asked(context: StepContext, check: Check) -> int:
    """Prompts that the new model answered for a win rate."""
    answers = read_input(context, check.after)
    return len(answers.filter(pc.equal(answers["role"], "respond"))["prompt"].unique())


def _judge_of(step: Evaluate, verdicts: ArtifactRef) -> Judge | None:
    (judge,) = (job.judge for load in step.loads for job in load.jobs if job.out == verdicts.name)
    return judge


def figures_of(context: StepContext, step: Evaluate, check: Check) -> Figures:
    """The figures of one check, from the tables that it names."""
    seed = seed_of(context.config.plan.seed, step.name)
    if check.verdicts is not None:
        answers = compared(context, check)
        if check.against == "answers" and answers.num_rows == 0:
            raise none_answered(check.name, _asked(context, check))
        tie_margin = notes.tie_margin_of(_judge_of(step, check.verdicts))
        return win_rate_figures(check, read_input(context, check.verdicts), answers, tie_margin, seed)
    return exact_match_figures(check, read_input(context, check.before), read_input(context, check.after), seed)
