"""What deserves a second look: each bound is told beyond it and not at it, and docs/second-look.md has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.step import bounds, second_look
from selfalign_jobs.step.bounds import BOUNDS, Bound
from selfalign_jobs.step.pair_figures import Lengths, Verdicts

DOCS = (Path(__file__).parents[2] / "docs" / "second-look.md").read_text(encoding="utf-8")
FINE = Verdicts(100, 200, 1.0, 0.5, 0.95, 0.0, 0.5, 1.0)


def judged(**changes: Any) -> list[str]:
    fields = {name: getattr(FINE, name) for name in FINE.__slots__} | changes
    return list(second_look.on_verdicts(Verdicts(**fields)))


def lengths(longer: float = 0.5, cut: float = 0.0, stretch: float = 1.0) -> list[str]:
    return list(second_look.on_lengths(Lengths(np.array([100.0 * stretch]), np.array([100.0]), longer, cut)))


def row(step: int, **changes: float) -> dict[str, float]:
    return {"step": step, "loss": 0.6, "accuracy": 0.7, "gradient_norm": 1.0} | changes


def log(steps: int, change: Callable[[int], dict[str, float]] = lambda step: {}) -> list[dict[str, float]]:
    return [row(step, **change(step)) for step in range(1, steps + 1)]


def told_of(rows: list[dict[str, float]]) -> list[str]:
    return list(second_look.on_log(rows))


def gains(n: int) -> list[str]:
    return list(second_look.on_results({"win": {"value": 0.6, "low": 0.55, "high": 0.65, "n": n}}))


# Of each bound: what is told at a value of its figure, and two values, of which only the second is beyond it.
SIDES: dict[str, tuple[Callable[[float], list[str]], float, float]] = {
    "POSITION": (lambda x: judged(first_position=x), 0.75, 0.76),
    "CONSISTENT": (lambda x: judged(consistent=x), 0.7, 0.69),
    "PARSED": (lambda x: judged(parsed=x), 0.9, 0.89),
    "TIES": (lambda x: judged(ties=x), 0.5, 0.51),
    "REPEATED": (lambda x: list(second_look.on_prompts(x)), 0.05, 0.051),
    "IDENTICAL": (lambda x: list(second_look.on_records(1000, 800, {"identical answers": round(x * 1000)})), 0.1, 0.101),
    "KEPT": (lambda x: list(second_look.on_records(1000, round(x * 1000), {})), 0.25, 0.249),
    "CUT": (lambda x: lengths(cut=x), 0.05, 0.051),
    "LONGER": (lambda x: lengths(longer=x), 0.7, 0.71),
    "STRETCHED": (lambda x: lengths(stretch=x), 1.5, 1.51),
    "BATCH": (lambda x: list(second_look.on_batches(100, round(x * 100))), 1, 1.01),
    "LEARNING_RATE": (lambda x: list(second_look.on_learning_rate(x)), 0.01, 0.011),
    "OVERLONG": (lambda x: list(second_look.on_left_out(1000, round(x * 1000), 0)), 0.1, 0.101),
    "HELD_PAIRS": (lambda x: list(second_look.on_held_out_pairs(1000, round(x * 1000))), 0.1, 0.101),
    "DEAD_GRADIENT": (lambda x: told_of(log(9, lambda step: {"gradient_norm": x if step == 9 else 1})), 1e-9, 9e-10),
    "SKIPPED": (lambda x: told_of(log(100, lambda step: {"gradient_norm": math.nan if step <= x * 100 else 1})), 0.1, 0.11),
    "RISEN": (lambda x: told_of(log(100, lambda step: {"loss": x if step > 1 else 1})), 1.5, 1.51),
    "AGAINST": (lambda x: told_of(log(100, lambda step: {"accuracy": x})), 0.4, 0.39),
    "LEARNED": (lambda x: told_of(log(100, lambda step: {"accuracy": 1 if step > 100 - 100 * x else 0.9})), 0.5, 0.51),
    "FALLEN": (lambda x: list(second_look.on_chosen(-1, -1 - x)), 5, 5.1),
    "HELD_OUT": (lambda x: gains(round(x)), 100, 99),
    "GROWN": (lambda x: list(second_look.on_growth(100, 100 * x)), 1.5, 1.51),
    "UNANSWERED": (lambda x: list(second_look.on_unanswered("rival", 100, 100 - round(100 * x))), 0, 0.01),
    "UNASKED": (lambda x: list(second_look.on_benchmark("board", 100, 100 - round(100 * x), 0)), 0, 0.01),
    "FULL": (lambda x: list(second_look.on_benchmark("board", 100, 100, round(100 * x))), 0, 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
def test_a_figure_is_told_beyond_its_bound_and_not_at_it(name: str) -> None:
    tell, at, beyond = SIDES[name]
    assert tell(at) == []
    assert len(tell(beyond)) == 1


def test_both_directions_of_a_figure_are_odd() -> None:
    assert "second in" in judged(first_position=0.1)[0]
    assert "shorter" in lengths(longer=0.1)[0]
    assert len(lengths(stretch=0.5)) == 1
    assert len(list(second_look.on_growth(100, 50))) == 1
    assert "cut" in next(second_look.on_left_out(10, 0, 5))
    assert "dropped" in next(second_look.on_records(100, 90, {"answer cut at maxTokens": 6}))
    assert list(second_look.on_records(0, 0, {})) == []


@pytest.mark.parametrize(("which", "words"), [("First", "first answer"), ("Last", "last answer, with all before it")])
def test_which_answer_of_a_conversation_is_taken_is_told(which: str, words: str) -> None:
    (note,) = second_look.on_turns("demonstrations", 1000, 12, which)
    assert note.startswith("12 of 1,000 rows") and words in note and f"data.demonstrations.turn: {which}" in note
    assert list(second_look.on_turns("demonstrations", 1000, 0, which)) == []


def test_every_bound_has_its_two_sides_here_and_its_row_in_the_docs() -> None:
    assert set(SIDES) | {"DEAD_STEPS"} == {bound.name for bound in BOUNDS} == _constants()
    for bound in BOUNDS:
        cells = (bound.name, f"{bound.value:g}", bound.of, bound.why, bound.write)
        assert f"| {' | '.join(cells)} |" in DOCS, bound.name


def _constants() -> set[str]:
    return {name for name, value in vars(bounds).items() if isinstance(value, Bound)}


# --- collapse ---------------------------------------------------------------------------------------------------------------

DEAD = {"gradient_norm": 0.0, "accuracy": 0.0}


@given(st.lists(st.booleans(), max_size=40))
def test_a_training_has_collapsed_once_enough_steps_in_a_row_are_dead(dead: list[bool]) -> None:
    rows = [row(step, **(DEAD if is_dead else {})) for step, is_dead in enumerate(dead, 1)]
    at_end = len(dead) - 1 - max((number for number, is_dead in enumerate(dead) if not is_dead), default=-1)
    assert second_look.dead_steps(rows) == at_end
    assert second_look.has_collapsed(rows) == (at_end >= bounds.DEAD_STEPS.value)


@pytest.mark.parametrize(
    ("what", "is_dead"),
    [
        ({"gradient_norm": 0.0, "accuracy": 0.0}, True),  # the weights are gone: both answers have one probability
        ({"gradient_norm": 0.0, "accuracy": 0.5}, True),  # a saturated model
        ({"gradient_norm": 0.0, "accuracy": 1.0}, False),  # hinge, all margins won: nothing is left to learn
        ({"gradient_norm": math.nan, "accuracy": 0.5}, False),  # float16 skips a step
        ({"gradient_norm": 1e-6, "accuracy": 0.0}, False),
    ],
)
def test_what_a_dead_step_is(what: dict[str, float], is_dead: bool) -> None:
    assert second_look.has_collapsed([row(step, **what) for step in range(1, 6)]) == is_dead


def test_a_collapse_too_short_to_end_the_training_is_told_with_its_step() -> None:
    told = told_of(log(9, lambda step: DEAD if step > 7 else {}))
    assert "from step 8 on the gradient is 0" in told[0]


def test_a_loss_that_begins_at_0_does_not_rise_by_a_little() -> None:
    assert told_of(log(9, lambda step: {"loss": 0.0 if step == 1 else 0.05})) == []


def test_a_gradient_that_nobody_measured_is_no_skipped_step() -> None:
    assert told_of(log(9, lambda step: {"gradient_norm": math.nan})) == []


def test_an_empty_log_and_a_short_one_are_no_news() -> None:
    assert told_of([]) == told_of(log(1)) == []


# --- what a step keeps ------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=400), max_size=20))
def test_what_a_step_keeps_of_its_notes_fits_its_result(notes: list[str]) -> None:
    kept = second_look.kept_short(notes)
    assert len(kept) <= second_look.MOST
    assert all(len(note) <= second_look.LONGEST for note in kept)


def _ordinary() -> Iterator[list[str]]:
    yield judged()
    yield lengths()
    yield told_of(log(50))
    yield gains(500)


def test_an_ordinary_run_has_no_notes() -> None:
    assert [*_ordinary()] == [[], [], [], []]
