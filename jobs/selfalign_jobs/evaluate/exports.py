"""Answers in files that other tools read."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import Check, Plan
from selfalign_api.plan_values import Json

EXPORTS = "exports"  # the folder of the run that they lie in
ENDINGS = {"AlpacaEval": "json", "ArenaHard": "jsonl", "MTBench": "jsonl"}  # those tools go by them


def export_file(check: Check) -> str:
    """The file of an Export, in the run's folder: of the newest evaluation."""
    assert check.format is not None
    return f"{EXPORTS}/{check.name}.{ENDINGS[check.format]}"


def alpaca_eval(answers: pa.Table, plan: Plan, iteration: int) -> bytes:
    """The answers of role `respond` as AlpacaEval reads model outputs: a JSON list, an object a prompt.

    `generator` is the run with its iteration; `dataset` the file of the held-out prompts, `held-out` where the run named none.
    """
    source = plan.sources.get("evaluation")
    found: list[dict[str, Json]] = [
        {
            "instruction": row["prompt"],
            "output": row["answer"],
            "generator": _generator(plan, iteration),
            "dataset": "held-out" if source is None or source.url is None else PurePosixPath(source.url).name,
        }
        for row in _responses(answers)
    ]
    return json.dumps(found, ensure_ascii=False, indent=1).encode()


def arena_hard(answers: pa.Table, questions: pa.Table, plan: Plan, iteration: int, now: float) -> bytes:
    """The same as Arena-Hard-Auto reads model answers: a JSON object a line, for each question (`id`, `prompt`) that was answered.

    What it counts of a text's style is left out: its own `utils/add_markdown_info.py` adds that, by a tokenizer of OpenAI's.
    """
    answered = {row["prompt"]: row["answer"] for row in _responses(answers)}
    model = _generator(plan, iteration)
    lines = [
        {
            "uid": row["id"],
            "ans_id": _answer_id(plan, model, row["id"]),
            "model": model,
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": {"answer": answered[row["prompt"]]}},
            ],
            "tstamp": now,
        }
        for row in questions.select(["id", "prompt"]).to_pylist()
        if row["prompt"] in answered
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def mt_bench(dialogues: pa.Table, plan: Plan, iteration: int, now: float) -> bytes:
    """Answers to MT-Bench's questions as FastChat's llm_judge reads model answers: a JSON object a line, in their order."""
    model = _generator(plan, iteration)
    lines = [
        {
            "question_id": int(row["question_id"]) if row["question_id"].isdecimal() else row["question_id"],
            "answer_id": _answer_id(plan, model, row["question_id"]),
            "model_id": model,
            "choices": [{"index": 0, "turns": json.loads(row["answers"])}],
            "tstamp": now,
        }
        for row in dialogues.to_pylist()
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _answer_id(plan: Plan, model: str, question: str) -> str:
    return hashlib.blake2b(f"{plan.digest} {model} {question}".encode(), digest_size=11).hexdigest()


def _generator(plan: Plan, iteration: int) -> str:
    """What those tools call the model."""
    return f"{plan.name}-i{iteration}"


def _responses(answers: pa.Table) -> list[dict[str, str]]:
    """The answers that are not at a temperature of ExactMatch's."""
    rows = answers.filter(pc.equal(answers["role"], "respond")).select(["prompt", "answer"])
    found: list[dict[str, str]] = rows.to_pylist()
    return found
