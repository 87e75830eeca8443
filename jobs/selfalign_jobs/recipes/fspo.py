"""FSPO, Few-Shot Preference Optimization (arXiv 2502.19312): a model learns to read a person's taste off a few of their pairs.

Each example shows so many pairs of one user, the shots, and asks about another question of the same user, the target. The
model is trained on the preferred answers first (SFT), then on pairs, with IPO on sums against what the first training made.
Whoever it answers later is shown to it in the same way.

Where the paper or its code reports a value it is the default here; what they do not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import (
    ArtifactRef,
    EngineLoad,
    Evaluate,
    FlowJob,
    Json,
    Loss,
    ModelRef,
    Prepare,
    Role,
    SourceRef,
    Train,
)
from selfalign_jobs.flow import Ask, Request, Row
from selfalign_jobs.recipes.answers import COMPARE, answer_row, normalised
from selfalign_jobs.recipes.base import FlowDef, Recipe, Remark, Step
from selfalign_jobs.recipes.evaluation import HELD_OUT, answer_roles, check_of
from selfalign_jobs.recipes.few_shot import TURN, answer_of, turns
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.rows import ANSWERS
from selfalign_jobs.recipes.tables import joined_answers
from selfalign_jobs.recipes.trainings import WITH_REFERENCE
from selfalign_jobs.recipes.windows import APART, held_out_windows, windows

INITIAL, FITTED, TRAINED = ModelRef(), ModelRef(lineage="sft", iteration=1), ModelRef(iteration=1)
OWN = SourceRef(name="preferences")
# The splits of what is held out, each reported by itself: what its tables and its checks are called.
SPLITS = {"users": "", "questions": "-new-questions"}

Flow = Generator[Request | list[Request], Any, list[Row]]

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


def _asked(role: str, shots: list[Row], question: str, ask: Ask) -> Request:
    """The question with all shots, or, where that is too long, without the first of them."""
    template = ask.job.roles[role].template
    assert template is not None
    _, *shorter = turns(template, shots, question)
    return ask.write(role, shots=shots, prompt=question)._replace(shorter=tuple(shorter))


# --- the plan: SFT → preference training from it → evaluation -------------------------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Both trainings read the same windows; the evaluation asks held-out users, and held-out questions of the others."""
    steps: list[Step] = [fit(method), prefer(method)]
    if method.evaluation.after(1, method.iterations):
        steps.append(evaluate(method))
    return tuple(steps)


def fit(method: Method) -> Train:
    """The supervised training, on the preferred answers alone. [The paper's code learns from both; its text does not.]"""
    return Train(
        name="i1-train-sft",
        iteration=1,
        stage="sft",
        objective="sft",
        loss=Loss(type="sft"),
        data=Prepare(fn="windows", inputs=(OWN,), options=window_options(method) | {"targets": True}),
        start=INITIAL,
        result=FITTED,
        settings=method.training.stage("sft"),
    )


def prefer(method: Method) -> Train:
    """The training on pairs: policy and reference are both what the supervised training made."""
    loss = method.training.loss_of(1)
    return Train(
        name="i1-train",
        iteration=1,
        loss=loss,
        data=Prepare(fn="windows", inputs=(OWN,), options=window_options(method) | {"targets": False}),
        start=FITTED,
        reference=FITTED if loss.type in WITH_REFERENCE else None,
        result=TRAINED,
        settings=method.training.settings_of(1),
    )


def window_options(method: Method) -> dict[str, Json]:
    """What windows are made by."""
    return {
        "seed": method.seed,
        "count": method.data["preferences"].count,
        "apart": 0 if method.evaluation.when == "Never" else APART,
        "shots": method.options["shots"],
        "shuffles": method.options.get("shuffles", 2 * (method.options["shots"] + 1)),
        "identical": method.filters.identical,
        "describe": method.options["describe_user"] == "BeforeAnswer",
        "turn": method.roles["respond"].template,
    }


def evaluate(method: Method) -> Evaluate:
    """Both models answer the windows of both splits; the trained one is asked with no shots, and with another user's too."""
    name, roles = "i1-evaluate", answer_roles(method)
    exact = {role: values for role, values in roles.items() if role != "respond"}
    asked = [answers_job(method, split, f"answers{ending}", roles) for split, ending in SPLITS.items()]
    others = [
        answers_job(method, "users", out, exact, shots)
        for out, shots in (("answers-no-shots", None), ("answers-other-shots", "other_shots"))
        if exact
    ]
    loads = [
        EngineLoad(model=INITIAL, jobs=tuple(job.model_copy(update={"out": f"initial-{job.out}"}) for job in asked)),
        EngineLoad(model=TRAINED, jobs=(*asked, *others)),
    ]
    if "respond" in roles:
        judging = (judging_job(method, name, ending) for ending in SPLITS.values())
        first, second = (method.judge_load(INITIAL, job) for job in judging)
        loads.append(first.model_copy(update={"jobs": (*first.jobs, *second.jobs)}))
    checks = [
        check_of(check, *answers_of(name, ending), name).model_copy(
            update={"name": f"{check.name}{ending}"} | _verdicts_of(check.type, name, ending)
        )
        for check in method.evaluation.checks
        for ending in SPLITS.values()
    ]
    return Evaluate(name=name, iteration=1, loads=tuple(loads), engine=method.engine, checks=tuple(checks))


def answers_job(
    method: Method, split: str, out: str, roles: Mapping[str, Role], shots: str | None = "shots"
) -> FlowJob:
    """The windows of a split answered, with the shots of a column of theirs, or with none."""
    options = window_options(method) | {"split": split, "most": HELD_OUT}
    rows = Prepare(fn="held-out-windows", inputs=(OWN,), options=options)
    return FlowJob(flow="answer-window", rows=rows, out=out, roles=dict(roles), options={"shots": shots})


def judging_job(method: Method, step: str, ending: str) -> FlowJob:
    """The trained model's answers of a split against the initial model's. The judge sees the shots: they are in the prompt."""
    both = Prepare(fn="joined-answers", inputs=answers_of(step, ending), options={"role": "respond"})
    roles = {"judge": method.roles["judge"]}
    return FlowJob(flow="compare", rows=both, out=f"verdicts{ending}", roles=roles, judge=method.judge)


def answers_of(step: str, ending: str) -> tuple[ArtifactRef, ArtifactRef]:
    """The tables of a split: the initial model's answers, and the trained one's."""
    before, after = (ArtifactRef(step=step, name=f"{whose}answers{ending}") for whose in ("initial-", ""))
    return before, after


def _verdicts_of(kind: str, step: str, ending: str) -> dict[str, ArtifactRef]:
    return {"verdicts": ArtifactRef(step=step, name=f"verdicts{ending}")} if kind == "SelfWinRate" else {}


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: the paper's, or its code's, where they report one."""
    options = given.get("fspo", {})
    columns = ["user", *(["description"] if options.get("describeUser") == "BeforeAnswer" else [])]
    shots = options.get("shots", 8)  # of reviews and role-play; 4 of ELIX
    loss = given.get("training", {}).get("loss", {}).get("type", "ipo")
    return {
        "iterations": 1,
        "data": {"preferences": {"draw": "Same", "turn": "First", "columns": {name: name for name in columns}}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                # Ours, to the paper's layout; sampling and maxTokens: ours.
                {
                    "name": "respond",
                    "template": TURN,
                    "temperature": 0.6,
                    "topP": 0.95,
                    "maxTokens": 1024,
                    "reasoning": "Strip",
                },
                judge_role(),  # of the evaluation, and ours
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # ours
        },
        "judge": judge_values(),
        "iteration": {"start": "initial", "reference": "initial", "dataWindow": "Current"},
        "training": {
            "loss": {"type": "simpo", "beta": 2, "gamma": 1}  # ours
            if loss == "simpo"
            else {"type": "ipo", "beta": 0.01 if loss == "ipo" else 0.1},  # 0.1: ours
            "learningRate": 1e-6,
            "learningRateSchedule": "constant",
            "warmupRatio": 0.1,  # ours: the code has 150 steps
            "optimizer": {"type": "rmsprop", "beta2": 0.99},  # torch's own constant, which the code leaves as it is
            "epochs": 1,
            "globalBatchSize": 64,  # ours: the code has 4 a device
            "maxLengthTokens": 8192,
            "maxPromptTokens": 7168,  # ours: the code has 8192 too
            "stages": [{"name": "sft", "learningRate": 1e-7}],
        },
        "fspo": {"shots": shots, "shuffles": 2 * (shots + 1), "describeUser": "Never"},
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: shots are left out until a training's prompt fits."""
    most = method.training.settings.max_prompt_tokens
    prompt, answer = sources["preferences"], method.roles["respond"].max_tokens
    return {
        "shots": min(most, 3 * prompt * method.options["shots"]),
        "prompt": prompt,
        "first": answer,
        "second": answer,
    }


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """What the shots are worth: how often a held-out user's own answer is given without any, and with another user's."""
    told = {
        "answers-no-shots": (
            "tasteWithoutShots",
            "are what the user prefers when the model is shown no pair of theirs",
        ),
        "answers-other-shots": (
            "tasteWithOthersShots",
            "when it is shown another user's, drawn: near the former, or chance",
        ),
    }
    for name, (figure, words) in told.items():
        if name in tables and (table := _greedy(tables[name])).num_rows:
            rows = table.select(["answer", "reference"]).to_pylist()
            right = sum(normalised(row["answer"]) == normalised(row["reference"]) for row in rows)
            yield Remark(name, figure, right / len(rows), f"of the answers to held-out users {words}.", share=True)


def _greedy(table: pa.Table) -> pa.Table:
    """The answers at the lowest temperature that was asked for."""
    rows = table.filter(pc.equal(table["_status"], "rows"))
    return rows.filter(pc.equal(rows["temperature"], pc.min(rows["temperature"])))


RECIPE = Recipe(
    name="fspo",
    paper="arXiv 2502.19312",
    data={"preferences": True},
    defaults_for=defaults_for,
    variables={"respond": frozenset({"shots", "prompt"}), "judge": JUDGE_VARIABLES},
    required={"respond": frozenset({"shots", "prompt"}), "judge": frozenset({"prompt", "first", "second"})},
    flows={"answer-window": FlowDef(answer_window, ANSWERS), "compare": COMPARE},
    prepares={"windows": windows, "held-out-windows": held_out_windows, "joined-answers": joined_answers},
    plan=plan,
    longest=longest,
    remarks=remarks,
)
