"""Answers in files that other tools read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import Chances, make_run

from selfalign_api.errors import ConfigError
from selfalign_api.plan import DataSource, Plan
from selfalign_jobs.compare.comparison import read_comparison
from selfalign_jobs.evaluate.exports import alpaca_eval
from selfalign_jobs.report.finish import render_report, summary

PLAN = Plan(version="0", name="a-run", recipe="sao", seed=0, digest="", models={}, sources={}, steps=())

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def answers(rows: list[tuple[str, str]]) -> pa.Table:
    made = [
        {"prompt": prompt, "role": role, "answer": f"{role} {text}"}
        for prompt, text in rows
        for role in ("respond", "greedy")
    ]
    return pa.Table.from_pylist(made, schema=pa.schema([(name, pa.string()) for name in ("prompt", "role", "answer")]))


@given(st.lists(st.tuples(texts, texts), max_size=6))
def test_alpaca_eval_is_given_each_prompt_with_the_answer_of_role_respond(rows: list[tuple[str, str]]) -> None:
    found: list[dict[str, Any]] = json.loads(alpaca_eval(answers(rows), PLAN, 2))
    named = {"generator": "a-run-i2", "dataset": "held-out"}
    assert found == [{"instruction": prompt, "output": f"respond {text}"} | named for prompt, text in rows]


def test_the_data_set_is_the_file_of_the_held_out_prompts() -> None:
    plan = PLAN.model_copy(update={"sources": {"evaluation": DataSource(url="s3://bucket/path/held.jsonl")}})
    (row,) = json.loads(alpaca_eval(answers([("a", "b")]), plan, 1))
    assert row["dataset"] == "held.jsonl"


def test_an_evaluation_leaves_the_newest_model_s_answers_in_the_run_s_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, Chances(personas=40, held_out=30, iterations=2, checks=("accuracy", "win", "mine")))
    found = json.loads(run.folder.read("exports/mine.json"))
    assert {row["generator"] for row in found} == {f"{run.plan.name}-i2"}
    assert {row["instruction"] for row in found} == {f"Held out question {number}?" for number in range(30)}
    assert not any("mine" in name for name in summary(run.folder, run.plan)["effect"])


def test_a_run_that_only_exports_has_a_report_and_cannot_be_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path, Chances(personas=40, held_out=30, checks=("mine",)))
    assert summary(run.folder, run.plan)["winRate"] == {}
    assert render_report(run.folder, run.plan)
    with pytest.raises(ConfigError, match="is evaluated by Exports alone, which give no figure; write a SelfWinRate"):
        read_comparison([run.folder, run.folder])
