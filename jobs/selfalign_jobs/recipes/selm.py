"""SELM, Self-Exploring Language Models (arXiv 2405.19332): preferences, explored beyond the answers that they came with.

Iteration k takes a part of somebody's preferences that no iteration saw. The current model answers each prompt, greedily;
a ranker ranks the new answer and the two given ones; the best is chosen, the worst rejected. The model is trained on the
pairs with DPO's loss against itself as it was, and with a term of optimism: whatever its rank, the new answer is made less
likely (α·β times its log-ratio), so that the next model tries others.

Where the paper reports a value it is the default here; what it does not report is marked `# ours`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Prepare, SourceRef, Train
from selfalign_api.plan_values import Json
from selfalign_api.training_values import Loss
from selfalign_jobs.flow import Ask, Dropped, Request, Row
from selfalign_jobs.recipes.answers import ANSWER, COMPARE
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Remark, Step
from selfalign_jobs.recipes.evaluation import answers_job, evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import (
    APART_QUESTIONS,
    OWN_PAIRS,
    asked,
    draw_options,
    given_pairs,
    held_out_table,
)
from selfalign_jobs.recipes.ranking import rank, verdict
from selfalign_jobs.recipes.rows import RANKED_PAIRS, THREE_ANSWERS, TRAINED, history_of
from selfalign_jobs.recipes.tables import AS_MADE, DRAW, JOINED_ANSWERS, QUESTIONS, training_pairs
from selfalign_jobs.recipes.trainings import train_on_pairs, train_step

OWN = SourceRef(name="preferences")
INITIAL_ANSWERS = ArtifactRef(step="i1-generate", name="initial-answers")
THREE = ("new", "given_chosen", "given_rejected")  # in the paper's order: of equal ranks the earlier one is taken

Pairs = Generator[Request | list[Request], Any, list[Row]]

# --- the flows: what happens to one preference ----------------------------------------------------------------------------


def explore(row: Row, ask: Ask) -> Pairs:
    """Preference → new answer to its prompt → ranks of the three → one pair."""
    (answered,) = yield from answer_anew(row, ask)
    return (yield from rank_three(answered, ask))


def answer_anew(row: Row, ask: Ask) -> Pairs:
    """Preference → new answer to its prompt, for whoever ranks."""
    asking = {"prompt": row["prompt"], "history": history_of(row["history"])}
    chosen, rejected, (new,) = yield [
        ask.given("respond", row["chosen"], **asking),
        ask.given("respond", row["rejected"], **asking),
        ask.write("respond", **asking),
    ]
    seen = {"history": row["history"], "prompt": row["prompt"], "prompt_ids": new.prompt_ids, "answer_seed": new.seed}
    if ask.options["truncated"] == "Drop" and new.finish_reason == "length":
        raise Dropped("answer cut at maxTokens", row=_known(seen))
    three = dict(zip(THREE, (new, chosen, rejected), strict=True))
    return [
        seen
        | {name: answer.text for name, answer in three.items()}
        | {f"{name}_ids": answer.ids for name, answer in three.items()}
        | {f"{name}_finish": answer.finish_reason for name, answer in three.items()}
    ]


def rank_three(row: Row, ask: Ask) -> Pairs:
    """Three answers → best over worst; the new one is kept for the optimism term, whatever its rank."""
    texts = [row[name].strip() for name in THREE]
    ranking = yield from rank(ask, shown(row), texts)
    ranks = ranking.ranks
    best, worst = ranks.index(min(ranks)), ranks.index(max(ranks))
    seen = _known(row) | {
        "best": THREE[best].removeprefix("given_"),
        "worst": THREE[worst].removeprefix("given_"),
        "new_equals": next((name.removeprefix("given_") for name in THREE[1:] if row[name].strip() == texts[0]), None),
    }
    if texts[best] != texts[worst]:
        found = verdict(ask.judge, ranking, best, worst)
        seen |= found.columns
        if found.better is None:
            raise Dropped(found.reason, row=seen)
        if found.scores is not None:
            seen |= dict(zip(("chosen_score", "rejected_score"), found.scores, strict=True))
    elif ask.options["identical"] == "Drop":  # no gradient would come of it but the optimism term's
        raise Dropped("best and worst are the same text", row=seen)
    sides = (("chosen", THREE[best]), ("rejected", THREE[worst]))
    answers = {f"{side}{what}": row[f"{name}{what}"] for side, name in sides for what in ("", "_ids", "_finish")}
    return [seen | answers | {"kept_ids": row["new_ids"]}]


def shown(row: Row) -> str:
    """What a judge is shown as the prompt: the bare prompt, or the conversation that it ends."""
    said = [*history_of(row["history"]), {"role": "user", "content": row["prompt"]}]
    if len(said) == 1:
        return str(row["prompt"])
    return "\n\n".join(f"{each['role'].capitalize()}: {each['content']}" for each in said)


def _known(row: Row) -> dict[str, Any]:
    """What a table of pairs has of a row before it is ranked."""
    return {name: row[name] for name in ("prompt", "prompt_ids", "answer_seed")}


# --- the plan: generate → train → evaluate, for each iteration ------------------------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Iteration k explores with the model of k-1, and is trained from it, against it."""
    steps: list[Step] = []
    for k in range(1, method.iterations + 1):
        loads = loads_of(method, k)
        if loads:
            steps.append(
                Generate(name=f"i{k}-generate", iteration=k, load=loads[0], then=loads[1:], engine=method.engine)
            )
        steps.append(training(method, k))
        if method.evaluation.after(k, method.iterations):
            held = Prepare(fn="questions", inputs=(held_out_table(method, INITIAL_ANSWERS) or INITIAL_ANSWERS,))
            steps.append(evaluate_step(method, k, held, INITIAL_ANSWERS))
    return tuple(steps)


def is_offline(method: Method, k: int) -> bool:
    """Whether iteration k trains on the given pairs as they are: the paper's Zephyr begins so."""
    return k == 1 and method.options["first_iteration"] == "Offline"


def loads_of(method: Method, k: int) -> tuple[EngineLoad, ...]:
    """What iteration k generates: pairs, by one engine load or, judged by another model, two; at first held-out answers too."""
    policy = ModelRef(iteration=k - 1)
    explores, judges_itself = not is_offline(method, k), method.judge_of(policy) == policy
    jobs: list[FlowJob] = []
    if explores:
        jobs.append(exploring_job(method, k) if judges_itself else answering_job(method, k))
    if k == 1 and method.evaluation.when != "Never":
        jobs.append(answers_job(method, asked(method, "preferences"), INITIAL_ANSWERS.name))
    loads = [EngineLoad(model=policy, jobs=tuple(jobs))] if jobs else []
    if explores and not judges_itself:
        loads.append(method.judge_load(policy, ranking_job(method, f"i{k}-generate")))
    return tuple(loads)


def exploring_job(method: Method, k: int) -> FlowJob:
    """The preferences of iteration k into pairs, by a model that judges itself."""
    return FlowJob(
        flow="explore",
        rows=drawn_rows(method, k),
        out="pairs",
        roles={name: method.roles[name] for name in ("respond", "judge")},
        judge=method.judge,
        options=filter_options(method),
    )


def answering_job(method: Method, k: int) -> FlowJob:
    """The preferences of iteration k with new answers."""
    return FlowJob(
        flow="answer-anew",
        rows=drawn_rows(method, k),
        out="candidates",
        roles={"respond": method.roles["respond"]},
        options=filter_options(method),
    )


def ranking_job(method: Method, step: str) -> FlowJob:
    """Preferences with new answers, of this step, into pairs."""
    return FlowJob(
        flow="rank-three",
        rows=Prepare(fn="as-made", inputs=(ArtifactRef(step=step, name="candidates"),)),
        out="pairs",
        roles={"judge": method.roles["judge"]},
        judge=method.judge,
        options=filter_options(method),
    )


def drawn_rows(method: Method, k: int) -> Prepare:
    """The part of iteration k: of a seeded shuffle, which is ours (the paper's parts are contiguous)."""
    return Prepare(fn="draw", inputs=(OWN,), options=draw_options(method, "preferences", k))


def filter_options(method: Method) -> dict[str, Json]:
    """Which answers make no pair."""
    return {"identical": method.filters.identical, "truncated": method.filters.truncated}


def training(method: Method, k: int) -> Train:
    """On the pairs of the window that were explored; of an offline iteration on the given ones."""
    loss = method.training.loss_of(k)
    if is_offline(method, k):
        return train_step(method, k, given_pairs(method, k), dpo_of(loss))
    held, since = held_out_table(method, INITIAL_ANSWERS), 2 if is_offline(method, 1) else 1
    return train_on_pairs(method, k, held, since=since, loss=loss if loss.alpha else dpo_of(loss))


def dpo_of(loss: Loss) -> Loss:
    """Without its optimism term SELM's loss is DPO's; any other is itself."""
    return Loss(type="dpo", beta=loss.beta) if loss.type == "selm" else loss


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: those of the paper's Zephyr where it reports one."""
    iterations = given.get("iterations", 3)
    training = given.get("training", {})
    loss = training.get("loss", {}).get("type", "selm")
    losses = {"selm": {"type": "selm", "beta": 0.01, "alpha": 1e-3}, "simpo": {"type": "simpo", "beta": 2, "gamma": 1}}
    # A rate that is written holds for all iterations; that the last one's is lower for any number of them is ours.
    last = [{"fromIteration": iterations, "learningRate": 1e-7}]
    return {
        "iterations": iterations,
        "data": {"preferences": {"draw": "Fresh", "turn": "Last"}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {"name": "respond", "temperature": 0, "topP": 1.0, "maxTokens": 1024, "reasoning": "Strip"},
                judge_role(),  # ours, like the next: the paper's judge is a pair ranker
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},  # ours: the paper keeps all
        },
        "judge": judge_values(),
        "iteration": {"start": "previous", "reference": "previous", "dataWindow": "Current"},
        "training": {
            "loss": losses.get(loss, {"type": loss, "beta": 0.01}),  # of other losses: ours
            "learningRate": 5e-7,
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.1,
            "epochs": 1,
            "globalBatchSize": 256,
            "maxLengthTokens": 1024,
            "maxPromptTokens": 512,
            "iterationOverrides": last if iterations > 1 and "learningRate" not in training else [],
        },
        "selm": {"firstIteration": "Online"},
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: a judge is shown given answers too."""
    given = sources["preferences"]
    answer = max(given, method.roles["respond"].max_tokens)
    return {"prompt": max(given, sources.get("evaluation", 0)), "first": answer, "second": answer}


def remarks(tables: Mapping[str, pa.Table]) -> Iterator[Remark]:
    """Where the new answers rank, and how often they say nothing new: what exploring comes to."""
    if "pairs" not in tables or not (ranked := tables["pairs"].filter(pc.is_valid(tables["pairs"]["best"]))).num_rows:
        return

    def share(column: str, value: str) -> float:
        found = pc.equal(pc.fill_null(ranked[column], ""), value)
        return float(pc.mean(pc.cast(found, pa.float64())).as_py())

    yield Remark("pairs", "newBest", share("best", "new"), "of the new answers rank first of the three.", share=True)
    yield Remark("pairs", "newWorst", share("worst", "new"), "of the new answers rank last.", share=True)
    for given in ("chosen", "rejected"):
        words = f"of the new answers equal the {given} answer that was given."
        yield Remark("pairs", f"newEquals{given.capitalize()}", share("new_equals", given), words, share=True)


RECIPE = Recipe(
    name="selm",
    paper="arXiv 2405.19332",
    data={"preferences": True},
    defaults_for=defaults_for,
    variables={"respond": frozenset({"prompt"}), "judge": JUDGE_VARIABLES},
    required={"respond": frozenset({"prompt"}), "judge": frozenset({"prompt", "first", "second"})},
    flows={
        "explore": FlowDef(explore, RANKED_PAIRS, {"prompt_ids": "answered", "best": "ranked"}),
        "answer-anew": FlowDef(answer_anew, THREE_ANSWERS, {"prompt_ids": "answered"}),
        "rank-three": FlowDef(rank_three, RANKED_PAIRS, {"best": "ranked"}),
        "answer": ANSWER,
        "compare": COMPARE,
    },
    prepares={
        "draw": DRAW,
        "as-made": AS_MADE,
        "own-pairs": OWN_PAIRS,
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "training-pairs": PrepareDef(training_pairs, reads=(*TRAINED, "kept_ids")),
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
    remarks=remarks,
)
