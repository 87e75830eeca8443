"""Answers in files that other tools read."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import Chances, make_run

from selfalign_api.errors import ConfigError
from selfalign_api.plan import FlowJob, Plan, Prepare, Role
from selfalign_api.sources import DataSource
from selfalign_jobs.compare.comparison import read_comparison
from selfalign_jobs.evaluate.exports import alpaca_eval, arena_hard, mt_bench
from selfalign_jobs.flow import Ask, Completion
from selfalign_jobs.recipes.dialogues import DIALOGUES, TEMPERATURES, dialogue, role_of, roles
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


def read_as_arena_hard_does(file: bytes) -> dict[str, dict[str, Any]]:
    """Its answers by uid, with all that its judgement and its count of markdown read of each, and nothing it would not know."""
    found = {}
    for line in io.StringIO(file.decode(), newline=None):  # lines as a file opened for text has them
        answer = json.loads(line)
        question, said = answer["messages"]
        assert set(answer) == {"uid", "ans_id", "model", "messages", "tstamp"}
        assert (question["role"], said["role"]) == ("user", "assistant")
        assert isinstance(question["content"], str) and isinstance(said["content"]["answer"], str)
        assert isinstance(answer["tstamp"], float)
        found[answer["uid"]] = answer
    return found


@given(st.lists(st.tuples(texts, texts), max_size=6, unique_by=lambda row: row[0]), st.sets(texts, max_size=3))
def test_arena_hard_is_given_the_answer_of_each_question_that_has_one(
    rows: list[tuple[str, str]], others: set[str]
) -> None:
    prompts = [*(prompt for prompt, _ in rows), *(others - {prompt for prompt, _ in rows})]
    questions = pa.table(
        {"prompt": pa.array(prompts, pa.string()), "id": [f"q{number}" for number in range(len(prompts))]}
    )
    found = read_as_arena_hard_does(arena_hard(answers(rows), questions, PLAN, 2, 1.5))
    assert {uid: answer["messages"][1]["content"]["answer"] for uid, answer in found.items()} == {
        f"q{number}": f"respond {text}" for number, (_, text) in enumerate(rows)
    }
    assert len({answer["ans_id"] for answer in found.values()}) == len(rows)
    assert {answer["model"] for answer in found.values()} <= {"a-run-i2"}


def test_questions_of_the_same_words_have_the_same_answer() -> None:
    questions = pa.table({"prompt": ["a", "a"], "id": ["1", "2"]})
    assert set(read_as_arena_hard_does(arena_hard(answers([("a", "b")]), questions, PLAN, 1, 0.5))) == {"1", "2"}


def test_an_evaluation_leaves_the_newest_model_s_answers_in_the_run_s_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, Chances(personas=40, held_out=30, iterations=2, checks=("accuracy", "win", "mine")))
    found = json.loads(run.folder.read("exports/mine.json"))
    assert {row["generator"] for row in found} == {f"{run.plan.name}-i2"}
    assert {row["instruction"] for row in found} == {f"Held out question {number}?" for number in range(30)}
    assert not any("mine" in name for name in summary(run.folder, run.plan)["effect"])


def test_an_evaluation_leaves_its_answers_to_arena_hard_s_questions(tmp_path: Path) -> None:
    run = make_run(tmp_path, Chances(personas=40, held_out=30, iterations=2, checks=("accuracy", "arena")))
    found = read_as_arena_hard_does(run.folder.read("exports/arena.jsonl"))
    assert {answer["model"] for answer in found.values()} == {f"{run.plan.name}-i2"}
    asked = {uid: answer["messages"][0]["content"] for uid, answer in found.items()}
    assert asked == {f"q{number}": f"Held out question {number}?" for number in range(30)}


def test_a_run_that_only_exports_has_a_report_and_cannot_be_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path, Chances(personas=40, held_out=30, checks=("mine",)))
    assert summary(run.folder, run.plan)["winRate"] == {}
    assert render_report(run.folder, run.plan)
    with pytest.raises(ConfigError, match="is evaluated by Exports alone, which give no figure; write a SelfWinRate"):
        read_comparison([run.folder, run.folder])


# --- MT-Bench -------------------------------------------------------------------------------------------------------------


def asked_in_turn(question: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The rows of a question, and what was asked, of a model that numbers its answers."""
    job = FlowJob(
        flow="dialogue",
        rows=Prepare(fn="dialogues"),
        out="x",
        roles=roles(Role(template="{{ prompt }}!", max_tokens=9)),
    )
    flow = dialogue(question, Ask(job, 0, "r", lambda template, variables: template))
    asked = [next(flow)]
    try:
        while True:
            said = f"answer {len(asked)}"
            asked.append(flow.send([Completion(said, (1, 2), (), "stop", 0)]))
    except StopIteration as done:
        return [*done.value], asked


@given(st.lists(texts.filter(str.strip), min_size=1, max_size=4), st.sampled_from([*TEMPERATURES, "other", None]))
def test_each_turn_is_asked_behind_what_was_said_to_those_before(turns: list[str], category: str | None) -> None:
    question = {"question_id": "81", "category": category, "turns": json.dumps(turns)}
    (row,), asked = asked_in_turn(question)
    assert json.loads(row["answers"]) == [f"answer {number + 1}" for number in range(len(turns))]
    assert [each.user for each in asked] == turns
    for number, each in enumerate(asked):
        said = [(message["role"], message["content"]) for message in each.history]
        before = [(turn, f"answer {place + 1}") for place, turn in enumerate(turns[:number])]
        assert said == [line for turn, answer in before for line in (("user", turn), ("assistant", answer))]
        assert each.role == role_of(category)


def test_a_category_has_the_temperature_that_fastchat_has_for_it() -> None:
    made = roles(Role(max_tokens=9))
    found = {category: made[role_of(category)].temperature for category in ("writing", "math", "stem", "another")}
    assert found == {"writing": 0.7, "math": 0.0, "stem": 0.1, "another": 0.7}
    assert {role.max_tokens for role in made.values()} == {9}


def read_as_fastchat_does(file: bytes) -> dict[str | int, dict[str, Any]]:
    """Model answers by question (fastchat/llm_judge/common.py, load_model_answers), as its judge takes their turns."""
    found = {}
    for line in io.StringIO(file.decode(), newline=None):
        answer = json.loads(line)
        assert set(answer) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
        first, second = answer["choices"][0]["turns"][:2]
        assert isinstance(first, str) and isinstance(second, str)
        found[answer["question_id"]] = answer
    return found


@given(st.dictionaries(st.one_of(st.integers(0, 999).map(str), st.just("a-1")), st.tuples(texts, texts), max_size=5))
def test_mt_bench_finds_both_turns_of_each_question(said: dict[str, tuple[str, str]]) -> None:
    rows = [
        {"question_id": id, "category": "math", "turns": "[]", "answers": json.dumps(both), "tokens": 2}
        for id, both in said.items()
    ]
    found = read_as_fastchat_does(mt_bench(pa.Table.from_pylist(rows, DIALOGUES), PLAN, 2, 1.5))
    wanted = {(int(id) if id.isdecimal() else id): [*both] for id, both in said.items()}
    assert {id: answer["choices"][0]["turns"] for id, answer in found.items()} == wanted
    assert len({answer["answer_id"] for answer in found.values()}) == len(said)
    assert {answer["model_id"] for answer in found.values()} <= {"a-run-i2"}
