"""Answers in files that other tools read."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import Json, Plan

EXPORTS = "exports"  # the folder of the run that they lie in


def export_file(check: str) -> str:
    """The file of an Export, in the run's folder: of the newest evaluation."""
    return f"{EXPORTS}/{check}.json"


def alpaca_eval(answers: pa.Table, plan: Plan, iteration: int) -> bytes:
    """The answers of role `respond` as AlpacaEval reads model outputs: a JSON list, an object a prompt.

    `generator` is the run with its iteration; `dataset` the file of the held-out prompts, `held-out` where the run named none.
    """
    source = plan.sources.get("evaluation")
    rows = answers.filter(pc.equal(answers["role"], "respond")).select(["prompt", "answer"]).to_pylist()
    found: list[dict[str, Json]] = [
        {
            "instruction": row["prompt"],
            "output": row["answer"],
            "generator": f"{plan.name}-i{iteration}",
            "dataset": "held-out" if source is None or source.url is None else PurePosixPath(source.url).name,
        }
        for row in rows
    ]
    return json.dumps(found, ensure_ascii=False, indent=1).encode()
