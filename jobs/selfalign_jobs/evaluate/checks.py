"""The checks of an evaluation: from tables of answers and verdicts to named figures. Pure."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Check
from selfalign_api.plan_values import Json
from selfalign_jobs.evaluate.length_controlled import length_controlled
from selfalign_jobs.evaluate.statistics import exact_match, paired_gain, points, wilson, win_rate
from selfalign_jobs.flow import seed_of
from selfalign_jobs.recipes.answers import role_at

Figures = dict[str, dict[str, Json]]  # name -> value, low, high (95 %), n


def exact_match_figures(check: Check, before: pa.Table, after: pa.Table, seed: int) -> Figures:
    """`NAME.ROLE.before`, `.after` and `.gain` for each temperature's role, over the prompts that both models answered.

    Prompts without a reference do not count. Raises ConfigError when no prompt has one.
    """
    figures: Figures = {}
    for role in (role_at(temperature) for temperature in check.temperatures):
        old, new = right_answers(before, role), right_answers(after, role)
        prompts = sorted(old.keys() & new.keys())
        if not prompts:
            raise ConfigError.one(
                "spec.evaluation.prompts.columns.reference",
                f"check {check.name} found no prompt with a reference that both models answered ({role}); "
                "write the column that holds the reference answers",
            )
        was, now = [old[prompt] for prompt in prompts], [new[prompt] for prompt in prompts]
        name = f"{check.name}.{role}"
        figures[f"{name}.before"] = wilson(sum(was), len(was)).figure
        figures[f"{name}.after"] = wilson(sum(now), len(now)).figure
        figures[f"{name}.gain"] = paired_gain(was, now, seed_of(seed, name, "bootstrap")).figure
    return figures


def right_answers(answers: pa.Table, role: str) -> dict[str, bool]:
    """Whether the answer to each prompt with a reference is right. Prompts are distinct by how they are prepared."""
    rows = answers.filter(pc.equal(answers["role"], role)).select(["prompt", "reference", "answer"]).to_pylist()
    return {row["prompt"]: exact_match(row["answer"], row["reference"]) for row in rows if row["reference"] is not None}


def win_rate_figures(check: Check, verdicts: pa.Table, compared: pa.Table, tie_margin: float, seed: int) -> Figures:
    """`NAME`: how often the new model's answer wins, over the prompts that both models answered; and length-controlled.

    `compared` are the answers that were judged, `before` and `after`, of each `prompt`.
    """
    p_first = verdicts["p_first"].to_pylist()
    rate = win_rate(p_first, tie_margin, seed_of(seed, check.name, "bootstrap"))
    texts = compared.take(pc.index_in(verdicts["prompt"], compared["prompt"].combine_chunks()))
    after, before = (pc.utf8_length(texts[name]).to_numpy() for name in ("after", "before"))
    controlled = length_controlled([points(p, tie_margin) for p in p_first], after, before)
    return {check.name: rate.figure, controlled_name(check.name): controlled.figure}


def controlled_name(check: str) -> str:
    """The figure of a win rate as if both answers were equally long."""
    return f"{check}.lengthControlled"
