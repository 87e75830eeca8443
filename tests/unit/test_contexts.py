"""Contexts of seeds: each set once, in an order that is drawn, without any of them being held."""

from __future__ import annotations

import math
from itertools import combinations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.recipes.contexts import combination, contexts, shots, shuffled_number


@given(seeds=st.integers(1, 9), size=st.integers(1, 9))
def test_the_numbers_of_sets_are_those_of_all_sets(seeds: int, size: int) -> None:
    found = {tuple(sorted(combination(number, seeds, size))) for number in range(math.comb(seeds, size))}
    assert found == {*combinations(range(seeds), size)}


@given(count=st.integers(1, 500), seed=st.integers(0, 2**63))
def test_the_order_of_all_numbers_has_each_once(count: int, seed: int) -> None:
    assert sorted(shuffled_number(number, count, seed) for number in range(count)) == list(range(count))


def options(rows: int, first: int, size: int, seed: int = 0) -> dict[str, object]:
    drawn = {"seed": seed, "apart": 0, "part": 0, "parts": 1, "count": None, "blank": False, "held_out": False}
    return drawn | {"shots": size, "rows": rows, "first": first, "template": "{{ context | join('+') }}"}


@given(seeds=st.integers(4, 12), size=st.integers(1, 3), seed=st.integers(0, 99), data=st.data())
def test_no_context_comes_twice_in_several_iterations(seeds: int, size: int, seed: int, data: st.DataObject) -> None:
    table = pa.table({"prompt": [f"seed {number}" for number in range(seeds)]})
    there = math.comb(seeds, size)
    rows = data.draw(st.integers(1, max(1, there // 3)))
    firsts = [first for first in (0, rows, 2 * rows) if first + rows <= there]
    parts = [contexts((table,), options(rows, first, size, seed))["context"].to_pylist() for first in firsts]
    found = [frozenset(context) for part in parts for context in part]
    assert len(set(found)) == len(found)
    assert all(len(context) == size for context in found)


@given(seeds=st.integers(4, 30), size=st.integers(1, 3), seed=st.integers(0, 99))
def test_each_seed_is_the_target_once_and_no_two_have_the_same_others(seeds: int, size: int, seed: int) -> None:
    table = pa.table({"prompt": [f"s{number}" for number in range(seeds)]})
    taught = shots((table,), options(0, 0, size, seed)).to_pylist()
    assert sorted(row["target"] for row in taught) == sorted(table["prompt"].to_pylist())
    others = [frozenset(row["user"].split("+")) for row in taught]
    assert len(set(others)) == len(others) == seeds
    assert all(
        len(context) == size and row["target"] not in context for context, row in zip(others, taught, strict=True)
    )


def test_seeds_are_shown_about_as_often_as_one_another() -> None:
    table = pa.table({"prompt": [f"s{number}" for number in range(200)]})
    shown = contexts((table,), options(4000, 0, 3))["context"].to_pylist()
    counts = [sum(seed in context for context in shown) for seed in table["prompt"].to_pylist()]
    assert min(counts) > 30 and max(counts) < 100  # 60 each, if by chance
