"""The rule of keywords, and how much a text repeats itself: a table of members, and what holds of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.recipes.keywords import BYTES, LETTERS, STOP_WORDS, drawn, keywords
from selfalign_jobs.recipes.repeated import repeated_percent

ANY = st.text(st.characters(codec="utf-8"), max_size=80)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "Reverse these words: green axe cat",
            ["words", "green", "axe", "cat"],
        ),  # the start of a sentence may be a name
        ("Anna met Bob in Rome, near the river.", ["met", "river"]),
        ("The river is long. River water is cold; the Danube's too.", ["river", "long", "water", "cold"]),
        ("We read that the Rose is a rose", ["read"]),  # written as a name amid a sentence: it may be one
        ('He said: "Cooking takes time." (Baking takes longer.)', ["takes", "time", "longer"]),
        ("a well-known o'clock don't DON'T IBM x2 42 étude naïve", ["well-known", "o'clock", "étude", "naïve"]),
        ("it is what they had done", []),
        ("an ox ox by me", []),  # shorter than three letters
        ("die Straße und der Weg", ["die", "und", "der"]),  # a language whose nouns are written so loses them
        ("привет, мир! как дела", ["привет", "мир", "как", "дела"]),
        ("dog cat dog\ncat dog", ["dog", "cat"]),
        ("", []),
    ],
)
def test_a_texts_keywords_are_its_words_but_for_stop_words_and_names(text: str, found: list[str]) -> None:
    assert keywords(text) == found


@given(ANY)
def test_keywords_stand_in_their_text_once_each_in_small_letters(text: str) -> None:
    found = keywords(text)
    assert len(found) == len(set(found))
    for word in found:
        assert word in text and word == word.lower() and word not in STOP_WORDS
        assert sum(map(str.isalpha, word)) >= LETTERS and len(word.encode()) <= BYTES
    assert keywords(text) == found


@given(st.lists(st.text("abc", min_size=1), unique=True, max_size=8), st.integers(0, 5), st.integers(), st.data())
def test_what_is_drawn_is_of_the_words_each_once_and_the_same_again(
    words: list[str], count: int, seed: int, data: st.DataObject
) -> None:
    but = frozenset(data.draw(st.lists(st.sampled_from(words))) if words else [])
    found = drawn(words, count, seed, but=but)
    assert found == drawn(words, count, seed, but=but)
    if found is None:
        assert len(set(words) - but) < count
    else:
        assert len(found) == len(set(found)) == count
        assert set(found) <= set(words) - but


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("", 0),
        ("one two", 0),
        ("one two three four", 0),
        ("no no no no no", 200 / 3),
        ("a b c\na b c", 25),  # a b c, b c a, c a b, a b c
        ("to be or not to be", 0),
        ("x " * 100, 100 * 97 / 98),
    ],
)
def test_a_text_repeats_itself_by_its_runs_of_three_words(text: str, percent: float) -> None:
    assert repeated_percent(text) == pytest.approx(percent)


@given(st.lists(st.text("ab ", max_size=4), max_size=20), st.integers(2, 4))
def test_a_text_said_again_repeats_itself_more_and_never_wholly(parts: list[str], times: int) -> None:
    text = " ".join(parts)
    once, again = repeated_percent(text), repeated_percent(" ".join([text] * times))
    assert 0 <= once <= again < 100
