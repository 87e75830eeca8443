"""What teaches to write prompts and to improve: what holds of whatever seeds, corpora and scores there are."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_jobs.recipes.keywords import keywords
from selfalign_jobs.recipes.seeds import improvements, seeds, word_lists, words_to_prompts

WORDS = ("apple", "boat", "cave", "drum", "eagle", "field", "the", "of", "Anna")
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
ROW = {"prompt": TEXT, "response": st.just("yes"), "history": st.none() | st.just("[]"), "answers": st.just(1)}
ROWS = st.lists(st.fixed_dictionaries(ROW), min_size=1, max_size=12)
ALL: dict[str, Any] = {"seed": 0, "apart": 0, "part": 0, "parts": 1, "count": None, "blank": False}
SCHEMA = pa.schema(
    [("prompt", pa.string()), ("response", pa.string()), ("history", pa.string()), ("answers", pa.int64())]
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


@given(ROWS, st.lists(TEXT, max_size=4))
def test_seeds_are_the_prompts_that_begin_a_conversation_and_are_not_held_out_once_each(
    rows: list[dict[str, Any]], held: list[str]
) -> None:
    tables = (table(rows), pa.table({"prompt": pa.array(held, pa.string())}))
    # Of a prompt that comes twice the first row counts, in the order of the draw.
    able = {row["prompt"] for row in rows if row["history"] is None} - {*held}
    try:
        found = seeds(tables, ALL | {"held_out": True})["prompt"].to_pylist()
    except ConfigError:
        found = []
    assert len(found) == len(set(found))
    assert set(found) <= able
    assert {row["prompt"] for row in rows if all(other["history"] is None for other in rows)} - {*held} <= {*found}


@given(ROWS, st.integers(1, 3), st.integers(0, 2), st.integers(0, 9))
def test_a_seed_is_asked_for_with_words_of_its_own_and_noise_of_another(
    rows: list[dict[str, Any]], own: int, noise: int, seed: int
) -> None:
    options = ALL | {"seed": seed, "held_out": False, "seed_words": own, "noise_words": noise}
    options |= {"template": "{{ keywords | join('|') }}"}
    try:
        found = words_to_prompts((table(rows),), options).to_pylist()
    except ConfigError:
        return
    others = {row["prompt"]: {*keywords(row["prompt"])} for row in rows}
    for row in found:
        mine = [word for word in row["keywords"] if word in others[row["prompt"]]]
        strange = [word for word in row["keywords"] if word not in others[row["prompt"]]]
        assert (len(mine), len(strange)) == (own, noise)
        assert any({*strange} <= words for prompt, words in others.items() if prompt != row["prompt"] or not strange)
        assert row["user"] == "|".join(row["keywords"])
        assert row["target"] == f"<question>{row['prompt']}</question>\n<solution>yes</solution>"
    assert words_to_prompts((table(rows),), options).to_pylist() == found


@given(st.lists(TEXT, min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 9))
def test_a_list_is_of_one_paragraph_and_none_is_short(texts: list[str], count: int, seed: int) -> None:
    options = ALL | {"seed": seed, "words": count}
    able = [{*keywords(text)} for text in texts if len(keywords(text)) >= count]
    try:
        found = word_lists((pa.table({"text": texts}),), options)["keywords"].to_pylist()
    except ConfigError:
        assert not able
        return
    assert len(found) == len(able)
    assert all(len(set(words)) == count and any({*words} <= each for each in able) for words in found)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-3, 3)), min_size=1, max_size=20),
    st.floats(0, 2),
    st.lists(st.sampled_from("abcde"), max_size=3),
)
def test_the_improver_is_taught_by_seeds_of_a_gap_that_are_not_held_out(
    scored: list[tuple[str, float]], least: float, held: list[str]
) -> None:
    rows = pa.table({"prompt": [prompt for prompt, _ in scored], "gap": [gap for _, gap in scored]})
    wanted = [(prompt, gap) for prompt, gap in scored if gap >= least and prompt not in held]
    tables = (rows, pa.table({"prompt": pa.array(held, pa.string())}))
    options = {"held_out": True, "min_gap": least}
    if not wanted:
        with pytest.raises(ConfigError, match=re.escape(f"{max(gap for _, gap in scored):.4g}")):
            improvements(tables, options)
        return
    found = improvements(tables, options)
    assert list(zip(found["prompt"].to_pylist(), found["gap"].to_pylist(), strict=True)) == wanted
