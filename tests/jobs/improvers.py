"""SynPO's trainings on the tiny model without an engine: drafts and answers are sampled by transformers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import trainings
from tiny_effects import log_probabilities, own_samples, samples, tables
from tiny_run import EXAMPLES, MOUNTS
from trainings import MODEL, TINY

from selfalign_api.load import load_run
from selfalign_api.plan_values import Json
from selfalign_jobs.accept.resolve import Resolved, resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.recipes.rows import IDS
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.template import render_template

sys.path.insert(0, str(TINY / "build"))

import reward_model

REWARD = TINY / "reward-model"


@cache
def example() -> Resolved:
    """examples/synpo-tiny.yaml."""
    return resolve(load_run(EXAMPLES / "synpo-tiny.yaml"), "CPU", MOUNTS, EXAMPLES)


def trained(step_name: str, rows: Sequence[dict[str, Json]], folder: Path) -> Path:
    """The model that a training of the example makes of these rows, token ids."""
    table = pa.Table.from_pylist(list(rows), pa.schema([(name, IDS) for name in rows[0]]))
    return trainings.trained(example().plan, step_name, folder, with_counts(table, {}))


def improver(prompts: list[str], drafts: list[str], targets: list[str], folder: Path) -> Path:
    """An improver that was taught these targets."""
    chat = ModelChat.of(MODEL, None)
    taught = zip(users(prompts, drafts), targets, strict=True)
    rows = [dict(zip(("prompt_ids", "target_ids"), chat.given(user, target), strict=True)) for user, target in taught]
    return trained("i1-train-improver", rows, folder)


def where(wanted: Callable[[str, str], bool], *columns: list[str]) -> list[list[str]]:
    """The rows of prompts, drafts and targets whose draft and target are so."""
    rows = [row for row in zip(*columns, strict=True) if wanted(row[1], row[2])]
    return [list(column) for column in zip(*rows, strict=True)]


def users(prompts: list[str], drafts: list[str], template: str | None = None) -> list[str]:
    """What an improver is asked: the example's, or one of this template."""
    template = template or example().method.roles["improve"].template
    assert template is not None
    return [
        render_template(template, {"prompt": prompt, "draft": draft})
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]


def improved(model: Path, rows: list[dict[str, str]], drafts: list[str], template: str | None = None) -> float:
    """The share of right answers that is expected of an improver at temperature 1, of held-out prompts with drafts."""
    chat = ModelChat.of(MODEL, None)
    asked = users([row["prompt"] for row in rows], drafts, template)
    answered = [chat.given(user, row["reference"]) for user, row in zip(asked, rows, strict=True)]
    return sum(map(math.exp, log_probabilities(model, answered))) / len(rows)


def pairs(model: Path, seed: int, count: int) -> list[dict[str, Json]]:
    """The pairs that iteration 1 makes of fresh requests: improved drafts over own answers, where the scores are apart."""
    prompts = [row["prompt"] for row in tables().demonstrations(seed, count)]
    drafts, initial = (own_samples(prompts, 100 * seed + number) for number in (1, 2))
    better = samples(model, users(prompts, drafts), 100 * seed + 3, example().method.roles["improve"].temperature)
    chat, scored = ModelChat.of(MODEL, None), reward_model.Scorer(REWARD)
    gap = example().method.judge.min_score_gap or 0
    found = []
    for prompt, chosen, rejected in zip(prompts, better, initial, strict=True):
        if chosen and rejected and scored(prompt, chosen) - scored(prompt, rejected) >= gap:
            ids, answer = chat.given(prompt, chosen)
            found.append({"prompt_ids": ids, "chosen_ids": answer, "rejected_ids": chat.given(prompt, rejected)[1]})
    return found
