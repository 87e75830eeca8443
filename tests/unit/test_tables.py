"""Whole-table functions."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_jobs.recipes import personas
from selfalign_jobs.recipes.tables import counts_of, draw, joined_answers, questions, training_pairs

DRAW = {"seed": 0, "apart": 0, "part": 0, "parts": 1, "count": None, "blank": False}


def people(count: int) -> pa.Table:
    return pa.table({"persona": [f"p{n}" for n in range(count)]})


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 20), st.integers(0, 2**63 - 1))
def test_parts_are_disjoint_and_the_same_each_time(apart: int, parts: int, count: int, seed: int) -> None:
    table = people(apart + parts * count)
    options = DRAW | {"apart": apart, "count": count, "parts": parts, "seed": seed}
    drawn = [draw((table,), options | {"part": part})["persona"].to_pylist() for part in range(parts)]
    again = [draw((table,), options | {"part": part})["persona"].to_pylist() for part in range(parts)]
    assert drawn == again
    assert len({name for part in drawn for name in part}) == parts * count


def test_without_a_count_the_parts_share_the_table() -> None:
    drawn = [draw((people(10),), DRAW | {"part": part, "parts": 3}).num_rows for part in range(3)]
    assert drawn == [3, 3, 3]


def test_more_personas_than_exist_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"40 rows are needed .* there are 39; write a smaller count"):
        draw((people(39),), DRAW | {"count": 20, "part": 1, "parts": 2})


def test_free_prompts_have_no_persona() -> None:
    assert draw((people(5),), DRAW | {"blank": True})["persona"].to_pylist() == [None] * 5


def test_pairs_whose_prompt_is_held_out_are_not_trained_on() -> None:
    pairs = pa.table({"prompt": ["a", "b", "c"]})
    held = pa.table({"prompt": ["b", "x"]})
    kept = training_pairs((pairs, held), {"held_out": True, "max_new_pairs": None, "seed": 0})
    assert kept["prompt"].to_pylist() == ["a", "c"]
    assert counts_of(kept) == {"pairs": 2, "promptHeldOut": 1}


ANSWERED = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["respond", "greedy"])), max_size=12)


@given(ANSWERED, ANSWERED)
def test_answers_of_both_models_stand_beside_each_other(old: list[tuple[str, str]], new: list[tuple[str, str]]) -> None:
    """A prompt that was written twice has two answers of the old model; the new one answered it once."""

    def answers(given: list[tuple[str, str]], who: str) -> pa.Table:
        rows = [
            {"prompt": prompt, "role": role, "answer": f"{who}{place}"} for place, (prompt, role) in enumerate(given)
        ]
        schema = pa.schema([(name, pa.string()) for name in ("prompt", "role", "answer")])
        return pa.concat_tables([pa.Table.from_pylist(rows[:5], schema), pa.Table.from_pylist(rows[5:], schema)])

    first: dict[str, str] = {}
    for place, (prompt, role) in enumerate(new):
        if role == "respond":
            first.setdefault(prompt, f"new{place}")
    expected = [
        {"prompt": prompt, "before": f"old{place}", "after": first[prompt]}
        for place, (prompt, role) in sorted(enumerate(old), key=lambda entry: entry[1][0])
        if role == "respond" and prompt in first
    ]
    found = joined_answers((answers(old, "old"), answers(new, "new")), {"role": "respond"})
    assert found.to_pylist() == expected


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.integers(1, 40))
def test_an_iteration_adds_at_most_its_quota(sizes: list[int], quota: int) -> None:
    windows = tuple(
        pa.table({"prompt": pa.array([f"{w}-{n}" for n in range(size)], pa.string())}) for w, size in enumerate(sizes)
    )
    kept = training_pairs(windows, {"held_out": False, "max_new_pairs": quota, "seed": 0})
    assert kept.num_rows == sum(min(size, quota) for size in sizes)


def test_questions_are_distinct_prompts_with_their_references() -> None:
    table = pa.table({"prompt": ["a", "b", "a"], "reference": ["1", "2", "3"], "role": ["x", "y", "z"]})
    assert questions((table,), {}).to_pylist() == [{"prompt": "a", "reference": "1"}, {"prompt": "b", "reference": "2"}]


def test_answers_of_two_models_meet_by_prompt_and_role() -> None:
    before = pa.table({"prompt": ["a", "a", "b"], "role": ["respond", "greedy", "respond"], "answer": ["1", "9", "2"]})
    after = pa.table({"prompt": ["b", "a"], "role": ["respond", "respond"], "answer": ["4", "3"]})
    assert joined_answers((before, after), {"role": "respond"}).to_pylist() == [
        {"prompt": "a", "before": "1", "after": "3"},
        {"prompt": "b", "before": "2", "after": "4"},
    ]


def test_the_built_in_personas_are_many_and_distinct() -> None:
    table = personas.table()
    assert len(set(table["persona"].to_pylist())) == personas.COUNT >= 200_000


@given(st.lists(st.integers(0, personas.SPACE - 1), min_size=2, max_size=50, unique=True))
def test_no_two_numbers_make_the_same_persona(numbers: list[int]) -> None:
    assert len({personas.persona(number) for number in numbers}) == len(numbers)
