"""Flows that evaluations of every recipe share: answer held-out prompts, compare answers of two models."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import Role
from selfalign_jobs.flow import Ask, Completion, Request, Row
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.recipes.judge import judge
from selfalign_jobs.recipes.rows import ANSWERS, VERDICTS

FlowOf = Generator[Request | list[Request], Any, list[Row]]


def answer(row: Row, ask: Ask) -> FlowOf:
    """One answer a role to a held-out prompt, all roles at once."""
    roles = ask.job.roles
    replies = yield [ask.write(role, prompt=row["prompt"]) for role in roles]
    return [
        answer_row(row["prompt"], row.get("reference"), name, role, completion)
        for (name, role), (completion,) in zip(roles.items(), replies, strict=True)
    ]


def compare(row: Row, ask: Ask) -> FlowOf:
    """The new model's answer (`after`, the first) against the old one's (`before`)."""
    verdict = yield from judge(ask, row["prompt"], row["after"], row["before"])
    return [{"prompt": row["prompt"], **verdict.columns}]


def answer_row(prompt: str, reference: str | None, name: str, role: Role, completion: Completion) -> Row:
    """A row of an answers table."""
    return {
        "prompt": prompt,
        "reference": reference,
        "role": name,
        "temperature": role.temperature,
        "answer": completion.text,
        "finish": completion.finish_reason,
        "tokens": len(completion.ids),
        "seed": completion.seed,
    }


def role_at(temperature: float) -> str:
    """The name of the answering role at a temperature: greedy, sampled (at 1), or sampled-0.7."""
    if temperature == 0:
        return "greedy"
    return "sampled" if temperature == 1 else f"sampled-{temperature:g}"


def normalised(answer: str) -> str:
    """The text that is compared: ends stripped, every run of whitespace one space, and nothing else."""
    return " ".join(answer.split())


def repetition(table: pa.Table) -> float | None:
    """Share of the prompts that the run wrote that equal an earlier one, up to whitespace; None where it wrote none."""
    prompts = [normalised(prompt) for prompt in written_prompts(table)]
    return 1 - len(set(prompts)) / len(prompts) if prompts else None


def written_prompts(table: pa.Table) -> list[str]:
    """The prompts of a table that the run wrote, those of records that were dropped later too."""
    if not {"prompt", "prompt_seed"} <= {*table.column_names}:
        return []
    prompts: list[str] = table.filter(pc.is_valid(table["prompt_seed"]))["prompt"].drop_null().to_pylist()
    return prompts


ANSWER = FlowDef(answer, ANSWERS)
COMPARE = FlowDef(compare, VERDICTS)
