"""FSPO, Few-Shot Preference Optimization (arXiv 2502.19312): a model learns to read a person's taste off a few of their pairs.

Preferences of many users are given, or made: users, who are described, label pairs of answers to questions, by a judge. Each
example shows so many pairs of one user, the shots, and asks about another question of the same user, the target. The model
is trained on the preferred answers first (SFT), then on pairs, with IPO on sums against what the first training made. Whoever
it answers later is shown to it in the same way.

Where the paper or its code reports a value it is the default here; what they do not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Prepare, SourceRef, TableRef, Train
from selfalign_api.plan_values import Json
from selfalign_api.training_values import Loss
from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.few_shot import TURN
from selfalign_jobs.recipes.judge import judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import most_drawn
from selfalign_jobs.recipes.tastes import (
    ANSWERED,
    CRITERIA,
    DESCRIBE_USER,
    JUDGE_FOR_USER,
    JUDGE_FOR_USER_VARIABLES,
    LABELS,
    LIST_VIEWS,
    RESPOND_VIEW,
    answer_views,
    asked_questions,
    label_user,
    users_to_ask,
)
from selfalign_jobs.recipes.trainings import WITH_REFERENCE
from selfalign_jobs.recipes.window_evaluation import ANSWER_WINDOW, COMPARE_FOR_USER, evaluate
from selfalign_jobs.recipes.windows import (
    APART,
    held_out_windows,
    joined_for_users,
    most_held_out_windows,
    most_windows,
    windows,
    windows_looked_at,
)

INITIAL, FITTED, TRAINED = ModelRef(), ModelRef(lineage="sft", iteration=1), ModelRef(iteration=1)
GENERATE = "i1-generate"
GIVEN, MADE = SourceRef(name="preferences"), ArtifactRef(step=GENERATE, name="labels")
USERS, QUESTIONS = SourceRef(name="users"), SourceRef(name="prompts")

# --- the plan: labels, where none are given → SFT → preference training from it → evaluation ------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Both trainings read the same windows; the evaluation asks held-out users, and held-out questions of the others."""
    steps: list[Step] = [] if labelled(method) == GIVEN else [generate(method)]
    steps += [fit(method), prefer(method)]
    if method.evaluation.after(1, method.iterations):
        steps.append(evaluate(method, labelled(method), window_options(method), (INITIAL, TRAINED)))
    return tuple(steps)


def labelled(method: Method) -> TableRef:
    """The pairs that say whose they are: the user's own, or those that the run labels."""
    return GIVEN if "preferences" in method.data else MADE


def generate(method: Method) -> Generate:
    """Each responder answers the questions from several viewpoints; then the judge labels, a user at a time."""
    responders = [(name, responder(name)) for name in method.options["responder_model_names"]]
    jobs = {name: answers_job(method, f"views-{name}") for name, _ in responders}
    answers = tuple(ArtifactRef(step=GENERATE, name=job.out) for job in jobs.values())
    first, *then = (EngineLoad(model=model, jobs=(jobs[name],)) for name, model in responders)
    judging = method.judge_load(INITIAL, labels_job(method, answers))
    return Generate(name=GENERATE, iteration=1, load=first, then=(*then, judging), engine=method.engine)


def responder(name: str) -> ModelRef:
    """The model of that name."""
    return INITIAL if name == "initial" else ModelRef(lineage=name)


def answers_job(method: Method, out: str) -> FlowJob:
    """Questions into answers from several viewpoints."""
    questions, users = method.data["prompts"].count, method.data["users"].count
    options = draw_options(method) | {"count": questions, "users": users, "shots": method.options["shots"]}
    return FlowJob(
        flow="answer-views",
        rows=Prepare(fn="asked-questions", inputs=(QUESTIONS, USERS), options=options),
        out=out,
        roles={name: method.roles[name] for name in ("listViews", "respondView")},
        options={"views": method.options["views_per_question"], "truncated": method.filters.truncated},
    )


def labels_job(method: Method, answers: tuple[ArtifactRef, ...]) -> FlowJob:
    """Users into their labels of pairs of these answers."""
    options = draw_options(method) | {
        "count": method.data["users"].count,
        "questions": method.options["questions_per_user"],
        "shots": method.options["shots"],
    }
    return FlowJob(
        flow="label-user",
        rows=Prepare(fn="users-to-ask", inputs=(USERS, *answers), options=options),
        out=MADE.name,
        roles={name: method.roles[name] for name in ("judge", "describeUser")},
        judge=method.judge,
    )


def draw_options(method: Method) -> dict[str, Json]:
    """One part of a seeded shuffle, with nothing set apart: what is held out is chosen of the labels."""
    return {"seed": method.seed, "apart": 0, "part": 0, "parts": 1, "blank": False}


def fit(method: Method) -> Train:
    """The supervised training, on the preferred answers alone. [The paper's code learns from both; its text does not.]"""
    return Train(
        name="i1-train-sft",
        iteration=1,
        stage="sft",
        objective="sft",
        loss=Loss(type="sft"),
        data=Prepare(fn="windows", inputs=(labelled(method),), options=window_options(method) | {"targets": True}),
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
        data=Prepare(fn="windows", inputs=(labelled(method),), options=window_options(method) | {"targets": False}),
        start=FITTED,
        reference=FITTED if loss.type in WITH_REFERENCE else None,
        result=TRAINED,
        settings=method.training.settings_of(1),
    )


def window_options(method: Method) -> dict[str, Json]:
    """What windows are made by; of labels that are made, how many a user gives at the most."""
    given = labelled(method) == GIVEN
    return {
        "seed": method.seed,
        "count": method.data["preferences"].count if given else None,
        **({} if given else {"questions": method.options["questions_per_user"]}),
        "apart": 0 if method.evaluation.when == "Never" else APART,
        "shots": method.options["shots"],
        "shuffles": method.options["shuffles"],
        "identical": method.filters.identical,
        "describe": method.options["describe_user"] == "BeforeAnswer",
        "turn": method.roles["respond"].template,
    }


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: the paper's, or its code's, where they report one."""
    made = "preferences" not in given.get("data", {})
    options = given.get("fspo", {})
    shots = options.get("shots", 8)  # of reviews and role-play; 4 of ELIX
    loss = given.get("training", {}).get("loss", {}).get("type", "ipo")
    asking = {"shots": shots, "shuffles": 2 * (shots + 1), "describeUser": "Never"}
    labelling = {"questionsPerUser": 50, "viewsPerQuestion": 4, "responderModelNames": ["initial"]}  # all ours
    return {
        "iterations": 1,
        "data": made_data(given) if made else {"preferences": given_data(options)},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                *(making_roles() if made else ()),
                respond_role(),
                judge_role() | ({"template": JUDGE_FOR_USER} if made else {}),
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # ours
        },
        "judge": judge_values() | ({"criteria": [*CRITERIA]} if made else {}),
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
        "fspo": asking | (labelling if made else {}),
    }


def given_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Labelled preferences: whose they are, and where answers begin with it what that user is like."""
    columns = ["user", *(["description"] if options.get("describeUser") == "BeforeAnswer" else [])]
    return {"draw": "Same", "turn": "First", "columns": {name: name for name in columns}}


def made_data(given: Mapping[str, Any]) -> dict[str, Any]:
    """Users and what they are asked; the paper's number of the built-in users."""
    own = "url" in given.get("data", {}).get("users", {})
    return {"users": {"draw": "Same"} | ({} if own else {"count": 1500}), "prompts": {"draw": "Same"}}


def respond_role() -> dict[str, Any]:
    """How the model is asked that is trained. Its sampling and maxTokens: ours."""
    sampling = {"temperature": 0.6, "topP": 0.95, "maxTokens": 1024, "reasoning": "Strip"}
    return {"name": "respond", "template": TURN, **sampling}


def making_roles() -> list[dict[str, Any]]:
    """Who lists viewpoints, answers from one, and says what a label tells of a user. Ours, to the paper's contract."""
    sampling = {"temperature": 1.0, "topP": 1.0, "reasoning": "Strip"}
    return [
        {"name": "listViews", "template": LIST_VIEWS, "maxTokens": 256, **sampling},
        {"name": "respondView", "template": RESPOND_VIEW, "maxTokens": 1024, **sampling},
        {"name": "describeUser", "template": DESCRIBE_USER, "maxTokens": 64, **sampling},
    ]


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: shots are left out until a training's prompt fits."""
    most, answer = method.training.settings.max_prompt_tokens, method.roles["respond"].max_tokens
    if labelled(method) == GIVEN:
        prompt = sources["preferences"]
        shown = min(most, 3 * prompt * method.options["shots"])
        return {"shots": shown, "prompt": max(prompt, most), "first": answer, "second": answer}
    prompt, written = sources["prompts"], method.roles["respondView"].max_tokens
    grown = method.options["questions_per_user"] * method.roles["describeUser"].max_tokens
    answers = dict.fromkeys(("first", "second"), max(written, answer)) | dict.fromkeys(("chosen", "rejected"), written)
    shown = min(most, (prompt + 2 * written) * method.options["shots"])
    texts = {"prompt": prompt, "view": method.roles["listViews"].max_tokens, "views": 1}
    return {"shots": shown, "description": sources["users"] + grown} | texts | answers


def spared(method: Method) -> frozenset[str]:
    """Of labels that are given a judge needs no description."""
    return frozenset({"description"}) if labelled(method) == GIVEN else frozenset()


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How labels came about, and what shots are worth: a held-out user's own answer given without any, and with another's."""
    if "labels" in tables and (table := _rows_of(tables["labels"])).num_rows:
        picked = pc.mean(pc.cast(table["picked"], pa.float64())).as_py()
        yield Remark(
            "labels", "labelsPicked", picked, "of the labels were picked: the description did not decide.", share=True
        )
    told = {
        "answers-no-shots": ("tasteWithoutShots", "no pair of theirs"),
        "answers-other-shots": ("tasteWithOthersShots", "the pairs of another user, who is drawn"),
    }
    for name, (figure, words) in told.items():
        if name in tables and (table := _greedy(tables[name])).num_rows:
            rows = table.select(["answer", "reference"]).to_pylist()
            right = sum(normalised(row["answer"]) == normalised(row["reference"]) for row in rows)
            said = f"of the answers to held-out users are what they prefer when the model is shown {words}."
            yield Remark(name, figure, right / len(rows), said, share=True)


def _greedy(table: pa.Table) -> pa.Table:
    """The answers at the lowest temperature that was asked for."""
    rows = _rows_of(table)
    return rows.filter(pc.equal(rows["temperature"], pc.min(rows["temperature"])))


def _rows_of(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["_status"], "rows"))


RECIPE = Recipe(
    name="fspo",
    paper="arXiv 2502.19312",
    data={"preferences": False, "users": False, "prompts": False},  # users are built in
    either=("prompts", "preferences"),
    defaults_for=defaults_for,
    variables={
        "listViews": frozenset({"prompt", "views"}),
        "respondView": frozenset({"prompt", "view"}),
        "respond": frozenset({"shots", "prompt"}),
        "describeUser": frozenset({"description", "prompt", "chosen", "rejected"}),
        "judge": JUDGE_FOR_USER_VARIABLES,
    },
    required={
        "listViews": frozenset({"prompt"}),
        "respondView": frozenset({"prompt", "view"}),
        "respond": frozenset({"shots", "prompt"}),
        "describeUser": frozenset({"description", "chosen"}),
        "judge": frozenset({"prompt", "first", "second", "description"}),
    },
    flows={
        "answer-views": FlowDef(answer_views, ANSWERED, {"view": "answered"}),
        "label-user": FlowDef(label_user, LABELS, {"chosen": "labelled"}),
        "answer-window": ANSWER_WINDOW,
        "compare-for-user": COMPARE_FOR_USER,
    },
    prepares={
        "asked-questions": PrepareDef(asked_questions, most=most_drawn, takes_rows=True, looks=True),
        "users-to-ask": PrepareDef(users_to_ask, most=most_drawn, takes_rows=True),
        "windows": PrepareDef(windows, most=most_windows, looked_at=windows_looked_at),
        "held-out-windows": PrepareDef(held_out_windows, most=most_held_out_windows),
        "joined-for-users": PrepareDef(joined_for_users, most=lambda rows, _: min(rows)),
    },
    plan=plan,
    longest=longest,
    spared=spared,
    remarks=remarks,
)
