"""Evaluating a trained model, the same for every recipe: held-out prompts answered, answers judged, both compared."""

from __future__ import annotations

from selfalign_api.plan import ArtifactRef, Check, EngineLoad, Evaluate, FlowJob, ModelRef, Prepare, Role
from selfalign_jobs.recipes.answers import role_at
from selfalign_jobs.recipes.method import EvaluationCheck, Method

HELD_OUT = 500  # prompts set apart for evaluation when the run names none
AFTER = "answers"  # the table of the trained model's


def evaluate_step(method: Method, k: int, asked: Prepare, before: ArtifactRef) -> Evaluate:
    """The model of iteration k answers what is `asked`; the initial model or a helper judges, where a check asks for verdicts.

    `before` are the initial model's answers: of an earlier step, or made here, where nothing has loaded that model yet.
    """
    loads = [EngineLoad(model=ModelRef(iteration=k), jobs=(answers_job(method, asked, AFTER),))]
    if before.step == f"i{k}-evaluate":
        loads.insert(0, EngineLoad(model=ModelRef(), jobs=(answers_job(method, asked, before.name),)))
    return evaluate_answers(method, k, tuple(loads), before)


def evaluate_answers(method: Method, k: int, loads: tuple[EngineLoad, ...], before: ArtifactRef) -> Evaluate:
    """The same of whatever makes the answers, the table AFTER of these loads."""
    name = f"i{k}-evaluate"
    after = ArtifactRef(step=name, name=AFTER)
    if any(check.type == "SelfWinRate" for check in method.evaluation.checks):
        both = Prepare(fn="joined-answers", inputs=(before, after), options={"role": "respond"})
        judging = FlowJob(
            flow="compare", rows=both, out="verdicts", roles={"judge": method.roles["judge"]}, judge=method.judge
        )
        loads = (*loads, method.judge_load(ModelRef(), judging))
    checks = tuple(check_of(check, before, after, name) for check in method.evaluation.checks)
    return Evaluate(name=name, iteration=k, loads=loads, engine=method.engine, checks=checks)


def answers_job(method: Method, asked: Prepare, out: str) -> FlowJob:
    """A model's answers to held-out prompts."""
    return FlowJob(flow="answer", rows=asked, out=out, roles=answer_roles(method))


def check_of(check: EvaluationCheck, before: ArtifactRef, after: ArtifactRef, step: str) -> Check:
    """A check of the spec, with the tables that it reads."""
    verdicts = ArtifactRef(step=step, name="verdicts") if check.type == "SelfWinRate" else None
    return Check(
        name=check.name,
        type=check.type,
        before=before,
        after=after,
        verdicts=verdicts,
        temperatures=check.temperatures,
    )


def answer_roles(method: Method) -> dict[str, Role]:
    """The roles that answer held-out prompts: one a temperature of ExactMatch, and `respond` for the win rate."""
    respond = method.roles["respond"]
    roles: dict[str, Role] = {}
    for check in method.evaluation.checks:
        if check.type == "SelfWinRate":
            roles["respond"] = respond
        for temperature in check.temperatures:
            roles[role_at(temperature)] = respond.model_copy(update={"temperature": temperature})
    return roles
