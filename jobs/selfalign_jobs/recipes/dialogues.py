"""Questions of several turns, each asked behind what the model itself said to those before (MT-Bench, arXiv 2306.05685)."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pyarrow as pa

from selfalign_api.plan import Role
from selfalign_jobs.flow import Ask, Request, Row

FLOW, PREPARE = "dialogue", "dialogues"
DIALOGUES = pa.schema(
    [
        ("question_id", pa.string()),
        ("category", pa.string()),
        ("turns", pa.string()),  # a JSON list of texts
        ("answers", pa.string()),  # a JSON list of as many
        ("tokens", pa.int32()),  # of all answers
    ]
)

# FastChat's own, by category (fastchat/llm_judge/common.py, temperature_config); of any other it is 0.7.
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0, "stem": 0.1,
    "humanities": 0.1, "arena-hard-200": 0.0,
}  # fmt: skip
OTHERWISE = 0.7


def dialogue(row: Row, ask: Ask) -> Generator[Request | list[Request], Any, list[Row]]:
    """The answers to all turns of a question."""
    role, history, answers, tokens = role_of(row["category"]), list[dict[str, str]](), list[str](), 0
    for turn in json.loads(row["turns"]):
        (completion,) = yield ask.write(role, prompt=turn, history=history)
        history += [{"role": "user", "content": turn}, {"role": "assistant", "content": completion.text}]
        answers.append(completion.text)
        tokens += len(completion.ids)
    return [{**row, "answers": json.dumps(answers, ensure_ascii=False), "tokens": tokens}]


def role_of(category: str | None) -> str:
    """The role that answers questions of a category: one a temperature."""
    return f"answer-{TEMPERATURES.get(category or '', OTHERWISE):g}"


def roles(respond: Role) -> dict[str, Role]:
    """Those roles: `respond` at each temperature. A turn is the user's as it stands: what was said before has no template."""
    every = {*TEMPERATURES.values(), OTHERWISE}
    asked = respond.model_copy(update={"template": None})
    return {f"answer-{each:g}": asked.model_copy(update={"temperature": each}) for each in sorted(every)}
