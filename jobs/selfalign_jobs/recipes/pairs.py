"""Pairs of one's own: preference training on a table that somebody has (offline). No paper: the values are ours.

Each row is a prompt with a chosen and a rejected answer. The policy is trained on them by any pairwise loss, as if it had
written both, and compared with the initial model on held-out prompts. Several iterations take a part of the table each and
start from, and refer to, the model of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign_api.plan import ArtifactRef
from selfalign_jobs.recipes.answers import ANSWER, COMPARE
from selfalign_jobs.recipes.base import Recipe, Step
from selfalign_jobs.recipes.evaluation import evaluate_step
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, judge_role, judge_values
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_tables import APART_QUESTIONS, OWN_PAIRS, asked, given_pairs
from selfalign_jobs.recipes.tables import JOINED_ANSWERS, QUESTIONS
from selfalign_jobs.recipes.trainings import train_step

# --- the plan: train → evaluate, for each iteration -----------------------------------------------------------------------


def plan(method: Method) -> tuple[Step, ...]:
    """Iteration k trains on the pairs of its window; the first evaluation asks the initial model too."""
    steps: list[Step] = []
    before: ArtifactRef | None = None
    for k in range(1, method.iterations + 1):
        steps.append(train_step(method, k, given_pairs(method, k)))
        if method.evaluation.after(k, method.iterations):
            before = before or ArtifactRef(step=f"i{k}-evaluate", name="initial-answers")
            steps.append(evaluate_step(method, k, asked(method, "preferences"), before))
    return tuple(steps)


def defaults_for(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields left out: all ours, those of training as DPO's users write them."""
    loss = given.get("training", {}).get("loss", {}).get("type", "dpo")
    return {
        "iterations": 1,
        "data": {"preferences": {"draw": "Fresh", "turn": "Last"}},
        "generation": {
            "maxSetAsidePercent": 1,
            "roles": [
                {"name": "respond", "temperature": 0.6, "topP": 0.95, "maxTokens": 2048, "reasoning": "Keep"},
                judge_role(),
            ],
            "filters": {"identical": "Drop", "truncated": "Keep"},
        },
        "judge": judge_values(),
        "iteration": {"start": "previous", "reference": "previous", "dataWindow": "Current"},
        "training": {
            "loss": {"type": "simpo", "beta": 2, "gamma": 1} if loss == "simpo" else {"type": "dpo", "beta": 0.1},
            "learningRate": 5e-7,
            "learningRateSchedule": "cosine",
            "warmupRatio": 0.1,
            "epochs": 1,
            "globalBatchSize": 64,
            "maxLengthTokens": 2048,
            "maxPromptTokens": 1800,
        },
    }


def longest(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: only held-out prompts are asked."""
    prompt = sources["evaluation"] if method.evaluation.prompts_given else sources["preferences"]
    answer = method.roles["respond"].max_tokens
    return {"prompt": prompt, "first": answer, "second": answer}


RECIPE = Recipe(
    name="pairs",
    paper="no paper",
    data={"preferences": True},
    defaults_for=defaults_for,
    variables={"respond": frozenset({"prompt"}), "judge": JUDGE_VARIABLES},
    required={"respond": frozenset({"prompt"}), "judge": frozenset({"prompt", "first", "second"})},
    flows={"answer": ANSWER, "compare": COMPARE},
    prepares={
        "own-pairs": OWN_PAIRS,
        "questions": QUESTIONS,
        "apart-questions": APART_QUESTIONS,
        "joined-answers": JOINED_ANSWERS,
    },
    plan=plan,
    longest=longest,
)
