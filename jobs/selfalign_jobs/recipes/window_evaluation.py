"""Whether a model reads a person's taste off their pairs: windows of held-out users and of held-out questions, answered."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

from selfalign_api.plan import ArtifactRef, EngineLoad, Evaluate, FlowJob, ModelRef, Prepare, Role, TableRef
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import Ask, Request, Row
from selfalign_jobs.recipes.answers import answer_row
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.recipes.evaluation import HELD_OUT, answer_roles, check_of, judge_loads, verdict_tables
from selfalign_jobs.recipes.few_shot import answer_of, turns
from selfalign_jobs.recipes.judge import judge
from selfalign_jobs.recipes.method import EvaluationCheck, Method
from selfalign_jobs.recipes.rows import ANSWERS, VERDICTS

# The splits of what is held out, each reported by itself: what its tables and its checks are called.
SPLITS = {"users": "", "questions": "-new-questions"}
STEP = "i1-evaluate"

Flow = Generator[Request | list[Request], Any, list[Row]]
Options = Mapping[str, Json]  # that windows are made by

# --- the flow: what happens to one held-out window ------------------------------------------------------------------------


def answer_window(row: Row, ask: Ask) -> Flow:
    """One answer a role to a user's question, with the shots that the job is about: the user's, another's, or none."""
    shots = row[ask.options["shots"]] if ask.options["shots"] else []
    roles = ask.job.roles
    replies = yield [_asked(role, shots, row["question"], ask) for role in roles]
    return [
        {**answer_row(row["prompt"], row["reference"], name, role, completion), "answer": answer_of(completion.text)}
        for (name, role), (completion,) in zip(roles.items(), replies, strict=True)
    ]


def compare_for_user(row: Row, ask: Ask) -> Flow:
    """The new model's answer (`after`, the first) against the old one's, for a user who is described, where that is known."""
    verdict = yield from judge(ask, row["prompt"], row["after"], row["before"], row["description"])
    return [{"prompt": row["prompt"], **verdict.columns}]


def _asked(role: str, shots: list[Row], question: str, ask: Ask) -> Request:
    """The question with all shots, or, where that is too long, without the first of them."""
    template = ask.job.roles[role].template
    assert template is not None
    _, *shorter = turns(template, shots, question)
    return ask.write(role, shots=shots, prompt=question)._replace(shorter=tuple(shorter))


# --- the step -------------------------------------------------------------------------------------------------------------


def evaluate(method: Method, labelled: TableRef, windows: Options, models: tuple[ModelRef, ModelRef]) -> Evaluate:
    """Both models answer the windows of both splits; the trained one is asked with no shots, and with another user's too."""
    roles, (initial, trained) = answer_roles(method), models
    exact = {role: values for role, values in roles.items() if role != "respond"}

    def job(split: str, out: str, roles: Mapping[str, Role], shots: str | None = "shots") -> FlowJob:
        """The windows of a split answered, with the shots of a column of theirs, or with none."""
        options = {**windows, "split": split, "most": HELD_OUT}
        rows = Prepare(fn="held-out-windows", inputs=(labelled,), options=options)
        return FlowJob(flow="answer-window", rows=rows, out=out, roles=dict(roles), options={"shots": shots})

    asked = {ending: (split, roles) for split, ending in SPLITS.items()}
    before = tuple(job(split, f"initial-answers{ending}", each) for ending, (split, each) in asked.items())
    after = tuple(job(split, f"answers{ending}", each) for ending, (split, each) in asked.items())
    others = (job("users", "answers-no-shots", exact, None), job("users", "answers-other-shots", exact, "other_shots"))
    loads = [
        EngineLoad(model=initial, jobs=before),
        EngineLoad(model=trained, jobs=(*after, *(others if exact else ()))),
    ]
    given, _ = answers_of("")
    tables = verdict_tables(method, given, given)
    compared = partial(compared_windows, labelled, windows)
    checks = [
        check_of(check, *answers_of(ending), tables.get(check), ending)
        for check in method.evaluation.checks
        for ending in SPLITS.values()
    ]
    return Evaluate(
        name=STEP,
        iteration=1,
        loads=(*loads, *judge_loads(method, tables, compared)),
        engine=method.engine,
        checks=tuple(checks),
    )


def compared_windows(labelled: TableRef, windows: Options, _: EvaluationCheck, out: str) -> tuple[FlowJob, ...]:
    """The trained model's answers of each split against the initial model's. The judge sees the shots: they are in the prompt."""

    def job(split: str, ending: str) -> FlowJob:
        options = {**windows, "split": split, "most": HELD_OUT, "role": "respond"}
        both = Prepare(fn="joined-for-users", inputs=(*answers_of(ending), labelled), options=options)
        return FlowJob(flow="compare-for-user", rows=both, out=f"{out}{ending}")

    return tuple(job(split, ending) for split, ending in SPLITS.items())


def answers_of(ending: str) -> tuple[ArtifactRef, ArtifactRef]:
    """The tables of a split: the initial model's answers, and the trained one's."""
    before, after = (ArtifactRef(step=STEP, name=f"{whose}answers{ending}") for whose in ("initial-", ""))
    return before, after


ANSWER_WINDOW = FlowDef(answer_window, ANSWERS)
COMPARE_FOR_USER = FlowDef(compare_for_user, VERDICTS)
