"""Evaluating a trained model, the same for every recipe: held-out prompts answered, answers judged, both compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selfalign_api.plan import (
    ArtifactRef,
    Check,
    EngineLoad,
    Evaluate,
    FlowJob,
    ModelRef,
    Prepare,
    Role,
    SourceRef,
    TableRef,
)
from selfalign_jobs.recipes.answers import role_at
from selfalign_jobs.recipes.method import EvaluationCheck, Method

HELD_OUT = 500  # prompts set apart for evaluation when the run names none
AFTER = "answers"  # the table of the trained model's
OF_FILE = "answers-"  # and a check's name: the source of the answers that it compares with


def evaluate_step(method: Method, k: int, asked: Prepare, before: ArtifactRef, first: int = 1) -> Evaluate:
    """The model of iteration k answers what is `asked`; the initial model or a helper judges, where a check asks for verdicts.

    `before` are the initial model's answers: of an earlier step, or made here, where nothing has loaded that model yet.
    `first` is the first iteration that is evaluated: before it there is only that model.
    """
    loads = [EngineLoad(model=ModelRef(iteration=k), jobs=(answers_job(method, asked, AFTER),))]
    if before.step == step_name(k):
        loads.insert(0, EngineLoad(model=ModelRef(), jobs=(answers_job(method, asked, before.name),)))
    return evaluate_answers(method, k, tuple(loads), before, first)


def evaluate_answers(
    method: Method, k: int, loads: tuple[EngineLoad, ...], before: ArtifactRef, first: int = 1
) -> Evaluate:
    """The same of whatever makes the answers, the table AFTER of these loads."""
    after = ArtifactRef(step=step_name(k), name=AFTER)
    previous = ArtifactRef(step=step_name(k - 1), name=AFTER) if k > first else before

    def compared(check: EvaluationCheck, out: str) -> tuple[FlowJob, ...]:
        both = (compared_with(check, before, previous), after)
        rows = Prepare(fn="joined-answers", inputs=both, options={"role": "respond"})
        return (FlowJob(flow="compare", rows=rows, out=out),)

    tables = verdict_tables(method, before, previous)
    return Evaluate(
        name=step_name(k),
        iteration=k,
        loads=(*loads, *judge_loads(method, tables, compared)),
        engine=method.engine,
        checks=tuple(
            check_of(check, compared_with(check, before, previous), after, tables.get(check))
            for check in method.evaluation.checks
        ),
    )


def step_name(k: int) -> str:
    """The evaluation of iteration k."""
    return f"i{k}-evaluate"


def compared_with(check: EvaluationCheck, before: ArtifactRef, previous: ArtifactRef) -> TableRef:
    """The answers that a check holds against the new model's: the initial one's, those of the iteration before, or a file's."""
    if check.against == "answers":
        return SourceRef(name=OF_FILE + check.name)
    return previous if check.against == "previous" else before


def verdict_tables(method: Method, before: ArtifactRef, previous: ArtifactRef) -> dict[EvaluationCheck, str]:
    """The table of verdicts of each win rate; by the run's judge against the initial model they are all in one."""
    return {
        check: "verdicts"
        if check.judging is None and compared_with(check, before, previous) == before
        else f"verdicts-{check.name}"
        for check in method.evaluation.checks
        if check.type == "SelfWinRate"
    }


def judge_loads(
    method: Method,
    tables: Mapping[EvaluationCheck, str],
    compared: Callable[[EvaluationCheck, str], tuple[FlowJob, ...]],
) -> tuple[EngineLoad, ...]:
    """The engine loads that judge: of each model one, whatever it judges. `compared` says what a table is made from, and how."""
    asking: dict[str, EvaluationCheck] = {}
    for check, out in tables.items():
        asking.setdefault(out, check)
    loads: dict[ModelRef, EngineLoad] = {}
    for out, check in asking.items():
        judging = check.judging or method.judging
        told = {"roles": {"judge": method.roles["judge"]}, "judge": judging.judge}
        load = judging.load(ModelRef(), *(job.model_copy(update=told) for job in compared(check, out)))
        earlier = loads[load.model].jobs if load.model in loads else ()
        loads[load.model] = load.model_copy(update={"jobs": (*earlier, *load.jobs)})
    return tuple(loads.values())


def answers_job(method: Method, asked: Prepare, out: str) -> FlowJob:
    """A model's answers to held-out prompts."""
    return FlowJob(flow="answer", rows=asked, out=out, roles=answer_roles(method))


def check_of(
    check: EvaluationCheck, before: TableRef, after: ArtifactRef, verdicts: str | None, ending: str = ""
) -> Check:
    """A check of the spec, with the tables that it reads; `ending` tells splits of what is held out from one another."""
    return Check(
        name=f"{check.name}{ending}",
        type=check.type,
        before=before,
        after=after,
        verdicts=None if verdicts is None else ArtifactRef(step=after.step, name=f"{verdicts}{ending}"),
        temperatures=check.temperatures,
        against=None if check.against == "initial" else check.against,
        format=check.format,
    )


def answer_roles(method: Method) -> dict[str, Role]:
    """The roles that answer held-out prompts: one a temperature of ExactMatch, and `respond` for all else, or for none."""
    respond = method.roles["respond"]
    roles: dict[str, Role] = {} if method.evaluation.checks else {"respond": respond}
    for check in method.evaluation.checks:
        if check.type != "ExactMatch":
            roles["respond"] = respond
        for temperature in check.temperatures:
            roles[role_at(temperature)] = respond.model_copy(update={"temperature": temperature})
    return roles
