"""What checks with questions of their own ask, by the evaluation of any recipe: benchmark tasks, and MT-Bench's questions.

A row of a benchmark is a request of lm-evaluation-harness. What is asked, and what the answers are worth, is the harness's own
(places/benchmark_tasks.py, evaluate/benchmark.py); here is what lies between: the flow of a request, and the jobs that ask the
trained model and, once, the initial one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from selfalign_api.plan import ArtifactRef, Check, EngineLoad, Evaluate, FlowJob, ModelRef, Prepare, Role, SourceRef
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import Ask, Context, Continue, Continued, Likelihood, Likely, Request, Row, SetAside
from selfalign_jobs.recipes import dialogues
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Step
from selfalign_jobs.recipes.evaluation import AFTER
from selfalign_jobs.recipes.method import EvaluationCheck, Method

SOURCE = "benchmark-"  # and a check's name: the source of its requests
QUESTIONS = "questions-"  # and the name of an Export: the source of its questions
FLOW, PREPARE, ROLE = "benchmark", "benchmark-requests", "benchmark"
CHAT = "\x02chat\x03"  # begins a context that is a chat, and no text of people's
OWN_QUESTIONS = (FLOW, dialogues.FLOW)  # flows that ask no held-out prompt

REQUESTS = pa.schema(
    [
        ("task", pa.string()),
        ("doc", pa.int64()),  # its number in the task
        ("kind", pa.string()),  # the harness's: generate_until, loglikelihood, loglikelihood_rolling
        ("context", pa.string()),
        ("text", pa.string()),  # whose likelihood is asked; "" where text is to be written
        ("settings", pa.string()),  # of what is written, as JSON: until, max_gen_toks, temperature, top_p
    ]
)
ANSWERED = pa.schema(
    [
        *REQUESTS,
        ("answer", pa.string()),
        ("log_p", pa.float64()),  # nats
        ("greedy", pa.bool_()),  # whether each token of the text is the likeliest
        ("tokens", pa.int32()),  # of what was written
        ("fills", pa.bool_()),  # the context left no room, and may have been cut
    ]
)

Flow = Generator[Request | list[Request], Any, list[Row]]


# --- the flow: what happens to one request --------------------------------------------------------------------------------


def answer_request(row: Row, ask: Ask) -> Flow:
    """What the model says to one request of the harness."""
    said: dict[str, Json] = {"answer": None, "log_p": None, "greedy": None, "tokens": None, "fills": False}
    if row["kind"] == "generate_until":
        written = yield from _written(row, ask)
        said |= {"answer": written.text, "tokens": written.tokens, "fills": written.fills}
    else:
        likely = yield from _likely(row)
        said |= {"log_p": likely.log_p, "greedy": likely.greedy, "fills": likely.fills}
    return [{**row, **said}]


def _written(row: Row, ask: Ask) -> Generator[Request, Any, Continued]:
    """A reasoning without an end is an answer without a text, which is wrong."""
    settings = json.loads(row["settings"])
    asked = Continue(
        ROLE,
        context_of(row["context"]),
        settings["max_gen_toks"],
        tuple(settings["until"]),
        ask.seed(ROLE),
        settings["temperature"],
        settings["top_p"],
    )
    try:
        written: Continued = yield asked
    except SetAside as aside:
        if aside.reason != "unclosed reasoning":
            raise
        return Continued("", 0, "length", fills=False)
    return written


def _likely(row: Row) -> Generator[Request | list[Request], Any, Likely]:
    """A text behind its context, or a whole text, window by window."""
    rolling = row["kind"] == "loglikelihood_rolling"
    context = None if rolling else context_of(row["context"])
    first: Likely = yield Likelihood(ROLE, context, row["text"])
    others: list[Likely] = yield [Likelihood(ROLE, None, row["text"], window) for window in range(1, first.windows)]
    every = [first, *others]
    return first._replace(
        log_p=sum(each.log_p for each in every), greedy=all(each.greedy for each in every), fills=first.fills
    )


def chat_context(messages: Sequence[Mapping[str, str]], **_: Any) -> str:
    """The messages of a context as the harness's requests hold them until a model's own chat template is at hand."""
    return CHAT + json.dumps([{"role": each["role"], "content": each["content"]} for each in messages])


def context_of(context: str) -> Context:
    """What stands before a text: plain, or a chat, whose last message, if the assistant's, is the beginning of its turn."""
    if not context.startswith(CHAT):
        return Context(context)
    messages, end = json.JSONDecoder().raw_decode(context, len(CHAT))
    begun = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
    *history, last = messages
    return Context(begun + context[end:], last["content"], tuple(history))


# --- the plan -------------------------------------------------------------------------------------------------------------


def benchmarked(found: Recipe) -> Recipe:
    """A recipe whose evaluations ask the questions of the method's checks too."""
    own = {FLOW: FlowDef(answer_request, ANSWERED), dialogues.FLOW: FlowDef(dialogues.dialogue, dialogues.DIALOGUES)}
    as_given = PrepareDef(lambda tables, _: tables[0])
    return replace(
        found,
        flows={**found.flows, **own},
        prepares={**found.prepares, PREPARE: as_given, dialogues.PREPARE: as_given},
        plan=lambda method: with_benchmarks(found.plan, method),
    )


def with_benchmarks(plan: Callable[[Method], tuple[Step, ...]], method: Method) -> tuple[Step, ...]:
    """The plan without the checks that have questions of their own, and these beside the others of each evaluation."""
    asked = [check for check in method.evaluation.checks if check.has_questions]
    others = tuple(check for check in method.evaluation.checks if not check.has_questions)
    evaluation = method.evaluation.model_copy(update={"checks": others})
    steps = plan(method.model_copy(update={"evaluation": evaluation}))
    first = next((step.name for step in steps if isinstance(step, Evaluate)), None)
    if not asked or first is None:
        return steps
    return tuple(_asking(step, asked, method, first) if isinstance(step, Evaluate) else step for step in steps)


def _asking(step: Evaluate, asked: Sequence[EvaluationCheck], method: Method, first: str) -> Evaluate:
    """An evaluation that asks the model whose answers it is about, and, where it is the first one, the initial model."""
    respond = method.roles.get("respond", Role())
    benchmarks = [check for check in asked if check.type == "Benchmark"]
    after = tuple(_job(check, _after(check), respond) for check in asked)
    before = tuple(_job(check, _before(check), respond) for check in benchmarks)
    loads = [_beside(load, after) if _answers(load) else load for load in step.loads]
    if step.name == first and before:
        initial = next((n for n, load in enumerate(loads) if load.model == ModelRef() and load.task == "text"), None)
        if initial is None:
            loads.append(EngineLoad(model=ModelRef(), jobs=before))
        else:
            loads[initial] = _beside(loads[initial], before)
    checks = tuple(
        Check(
            name=check.name,
            type=check.type,
            before=ArtifactRef(step=first, name=_before(check))
            if check in benchmarks
            else ArtifactRef(step=step.name, name=_after(check)),
            after=ArtifactRef(step=step.name, name=_after(check)),
            format=check.format,
        )
        for check in asked
    )
    return step.model_copy(update={"loads": tuple(loads), "checks": (*step.checks, *checks)})


def _job(check: EvaluationCheck, out: str, respond: Role) -> FlowJob:
    if check.type == "Benchmark":
        rows = Prepare(fn=PREPARE, inputs=(SourceRef(name=SOURCE + check.name),))
        return FlowJob(flow=FLOW, rows=rows, out=out, roles={ROLE: Role(temperature=0.0, reasoning=respond.reasoning)})
    rows = Prepare(fn=dialogues.PREPARE, inputs=(SourceRef(name=QUESTIONS + check.name),))
    return FlowJob(flow=dialogues.FLOW, rows=rows, out=out, roles=dialogues.roles(respond))


def _beside(load: EngineLoad, jobs: tuple[FlowJob, ...]) -> EngineLoad:
    return load.model_copy(update={"jobs": (*load.jobs, *jobs)})


def _answers(load: EngineLoad) -> bool:
    return any(job.out == AFTER for job in load.jobs)


def _before(check: EvaluationCheck) -> str:
    return f"{_after(check)}-initial"


def _after(check: EvaluationCheck) -> str:
    return f"{'benchmark' if check.type == 'Benchmark' else 'dialogues'}-{check.name}"
