"""SPIN, Self-Play Fine-Tuning (arXiv 2401.01335): a model plays against the one that it was an iteration ago.

For each demonstration the current model writes an answer of its own. The demonstration is chosen, the own answer rejected:
there is no judge, and nothing is filtered but own answers that equal the demonstration. The model is trained on the pairs
with DPO's loss (or hinge: the paper's ℓ is any convex decreasing one) against itself as it was, and plays again.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Prepare, SourceRef
from selfalign_jobs.flow import Ask, Dropped, Request, Row
from selfalign_jobs.recipes.answers import ANSWER, COMPARE
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.evaluation import answers_job, evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import APART_QUESTIONS, asked, draw_options, held_out_table
from selfalign_jobs.recipes.rows import PAIRS, TRAINED, history_of
from selfalign_jobs.recipes.tables import DRAW, JOINED_ANSWERS, QUESTIONS, training_pairs
from selfalign_jobs.recipes.trainings import train_on_pairs

OWN = SourceRef(name="demonstrations")
INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")

# --- the flow: what happens to one demonstration --------------------------------------------------------------------------


def self_play(row: Row, ask: Ask) -> Generator[Request | list[Request], Any, list[Row]]:
    """Demonstration → own answer to its prompt → one pair."""
    asked = {"prompt": row["prompt"], "history": history_of(row["history"])}
    demonstration, (own,) = yield [ask.given("respond", row["response"], **asked), ask.write("respond", **asked)]
    seen = {"prompt": row["prompt"], "prompt_ids": own.prompt_ids, "answer_seed": own.seed}
    if ask.options["truncated"] == "Drop" and own.finish_reason == "length":
        raise Dropped("answer cut at maxTokens", row=seen)
    if ask.options["identical"] == "Drop" and own.text.strip() == demonstration.text:  # no gradient would come of it
        raise Dropped(
            "own answer equals the demonstration", row=seen | {"chosen": row["response"], "rejected": own.text}
        )
    return [
        seen
        | {
            "chosen": demonstration.text,
            "rejected": own.text,
            "chosen_ids": demonstration.ids,
            "rejected_ids": own.ids,
            "chosen_finish": demonstration.finish_reason,
            "rejected_finish": own.finish_reason,
        }
    ]


# --- the plan: generate → train → evaluate, for each iteration ------------------------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Iteration k answers with the model of k-1, is trained from it against it, on this and the last iteration's pairs."""
    steps: list[Step] = []
    for k in range(1, method.iterations + 1):
        jobs = [pairs_job(method, k)]
        if k == 1 and method.evaluation.when != "Never":
            jobs.append(answers_job(method, asked(method, "demonstrations"), INITIAL_ANSWERS.name))
        load = EngineLoad(model=ModelRef(iteration=k - 1), jobs=tuple(jobs))
        steps.append(Generate(name=f"i{k}-generate", iteration=k, load=load, engine=method.engine))
        steps.append(train_on_pairs(method, k, held_out_table(method, INITIAL_ANSWERS)))
        if method.evaluation.after(k, method.iterations):
            held = Prepare(fn="questions", inputs=(held_out_table(method, INITIAL_ANSWERS) or INITIAL_ANSWERS,))
            steps.append(evaluate_step(method, k, held, INITIAL_ANSWERS))
    return tuple(steps)


def pairs_job(method: Method, k: int) -> FlowJob:
    """The demonstrations of iteration k into pairs."""
    return FlowJob(
        flow="self-play",
        rows=Prepare(fn="draw", inputs=(OWN,), options=draw_options(method, "demonstrations", k)),
        out="pairs",
        roles={"respond": method.roles["respond"]},
        options={"identical": method.filters.identical, "truncated": method.filters.truncated},
    )


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: the paper's where it reports one."""
    iterations = given.get("iterations", 4)
    training = given.get("training", {})
    loss = training.get("loss", {})
    later = [  # a rate or β that is written holds for all iterations
        *([{"fromIteration": 3, "learningRate": 1e-7}] if "learningRate" not in training else []),
        *([{"fromIteration": 4, "beta": 5.0}] if not {"beta", "type"} & loss.keys() else []),
    ]
    return {
        "iterations": iterations,
        "data": {"demonstrations": {"draw": "Same", "turn": "First"}},  # all of them; the paper draws 50 000
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                # The algorithm samples; the data that the authors released was greedy (temperature: 0).
                {"name": "respond", "temperature": 1.0, "topP": 1.0, "maxTokens": 256, "reasoning": "Strip"},
                judge_role(),  # of the evaluation, and ours
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # ours: the paper keeps all
        },
        "judge": judge_values(),
        "iteration": {"start": "previous", "reference": "previous", "dataWindow": "LastTwo"},
        "training": {
            "loss": {"type": "simpo", "beta": 2, "gamma": 1}  # ours
            if loss.get("type") == "simpo"
            else {"type": "dpo", "beta": 0.1},
            "learningRate": 5e-7,
            "learningRateSchedule": "linear",
            "warmupRatio": 0.1,
            "optimizer": {
                "type": "rmsprop",
                "beta2": 0.99,
            },  # torch's own constant, which the paper's scripts leave as it is
            "epochs": 2,
            "globalBatchSize": 64,
            "maxLengthTokens": 2048,
            "maxPromptTokens": 1024,  # ours; the scripts have 512 of 1024
            "iterationOverrides": [entry for entry in later if entry["fromIteration"] <= iterations],
        },
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most."""
    prompt = max(sources["demonstrations"], sources.get("evaluation", 0))
    answer = method.roles["respond"].max_tokens
    return {"prompt": prompt, "first": answer, "second": answer}


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """How long demonstrations and own answers are: a model that loses its end token is seen here first."""
    if (
        "pairs" not in tables
        or not (kept := tables["pairs"].filter(pc.equal(tables["pairs"]["_status"], "rows"))).num_rows
    ):
        return
    own, given = (pc.mean(kept[f"{side}_tokens"]).as_py() for side in ("rejected", "chosen"))
    cut = pc.mean(pc.cast(pc.equal(kept["rejected_finish"], "length"), pa.float64())).as_py()
    yield Remark("pairs", "ownAnswerTokens", own, f"tokens an own answer has on average, a demonstration {given:.1f}.")
    yield Remark("pairs", "ownAnswersCut", cut, "of the own answers are cut at maxTokens.", share=True)


RECIPE = Recipe(
    name="spin",
    paper="arXiv 2401.01335",
    data={"demonstrations": True},
    defaults_for=defaults_for,
    variables={"respond": frozenset({"prompt"}), "judge": JUDGE_VARIABLES},
    required={"respond": frozenset({"prompt"}), "judge": frozenset({"prompt", "first", "second"})},
    flows={
        "self-play": FlowDef(self_play, PAIRS, {"prompt_ids": "answered"}),
        "answer": ANSWER,
        "compare": COMPARE,
    },
    prepares={
        "draw": DRAW,
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "training-pairs": PrepareDef(training_pairs, reads=TRAINED),
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    remarks=remarks,
)
