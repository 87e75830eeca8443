"""Which examples a step takes, and how a step is dealt out: nothing lost or doubled, the budget kept, ranks alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.train.steps import Layout, Plan, order, places_of, plan_step

layouts = pytest.mark.parametrize(
    "layout",
    [Layout(packed=True), Layout(packed=False), Layout(packed=True, rewards=True)],
    ids=["packed", "padded", "packed for rewards"],
)
example = st.tuples(st.integers(1, 60), st.integers(1, 80), st.integers(1, 80))
steps = st.lists(example, min_size=1, max_size=50).map(lambda rows: np.array(rows, dtype=np.int64))


def planned(lengths: np.ndarray, ranks: int, spare: int, layout: Layout) -> tuple[Plan, int]:
    """A plan under a budget that holds the largest example and `spare` places more."""
    budget = int(places_of(lengths, layout).max()) + spare
    return plan_step(lengths, ranks, budget, layout), budget


def places(lengths: np.ndarray, held: np.ndarray, layout: Layout) -> int:
    """What a micro batch of these examples computes."""
    if len(held) == 0:
        return 0
    alone = places_of(lengths[held], layout)
    return int(alone.sum() if layout.packed else alone.max() * len(held))


@layouts
@given(steps, st.integers(1, 9), st.integers(0, 700))
def test_a_step_is_dealt_out_whole_and_within_the_budget(
    layout: Layout, lengths: np.ndarray, ranks: int, spare: int
) -> None:
    plan, budget = planned(lengths, ranks, spare, layout)
    assert sorted(int(row) for mine in plan for held in mine for row in held) == list(range(len(lengths)))
    assert max(places(lengths, held, layout) for mine in plan for held in mine) <= budget


@layouts
@given(steps, st.integers(1, 9), st.integers(0, 700))
def test_every_rank_has_as_many_micro_batches_and_none_is_empty_while_there_are_examples_for_all(
    layout: Layout, lengths: np.ndarray, ranks: int, spare: int
) -> None:
    plan, _ = planned(lengths, ranks, spare, layout)
    count = len(plan[0])
    assert [len(mine) for mine in plan] == [count] * ranks
    empty = sum(len(held) == 0 for mine in plan for held in mine)
    assert empty == max(0, count * ranks - len(lengths))
    assert empty < ranks


@layouts
@given(steps, st.integers(1, 9), st.integers(0, 700))
def test_the_plan_is_the_same_wherever_it_is_computed(
    layout: Layout, lengths: np.ndarray, ranks: int, spare: int
) -> None:
    first, budget = planned(lengths, ranks, spare, layout)
    again = plan_step(lengths.copy(), ranks, budget, layout)
    assert [[held.tolist() for held in mine] for mine in first] == [[held.tolist() for held in mine] for mine in again]


@given(steps, st.integers(1, 4), st.integers(0, 700))
def test_packed_micro_batches_are_few_and_ranks_are_alike(lengths: np.ndarray, ranks: int, spare: int) -> None:
    plan, budget = planned(lengths, ranks, spare, Layout(packed=True))
    all_places = places_of(lengths, Layout(packed=True))
    # Two of the emptiest would not fit into one, or there would be fewer: each is half full on average.
    assert len(plan[0]) <= max(1, -(-2 * int(all_places.sum()) // (budget * ranks)) + 1)
    loads = [sum(int(all_places[held].sum()) for held in mine) for mine in plan]
    assert max(loads) - min(loads) <= len(plan[0]) * int(all_places.max())


@layouts
def test_an_example_over_the_budget_is_refused(layout: Layout) -> None:
    with pytest.raises(ValueError, match="is over the budget of 20"):
        plan_step(np.array([[4, 9, 9], [2, 1, 1]]), 1, 20, layout)


@given(st.integers(1, 60), st.floats(0.01, 4), st.integers(1, 70), st.integers(0, 2**63 - 1))
def test_each_epoch_is_one_pass_over_all_rows_in_batches_of_which_the_last_may_be_smaller(
    rows: int, epochs: float, batch: int, seed: int
) -> None:
    found = order(rows, epochs, batch, seed)
    times = np.bincount(np.concatenate(found), minlength=rows)
    assert times.sum() == max(1, round(rows * epochs))
    assert times.max() - times.min() <= 1
    an_epoch = -(-rows // batch)
    for start in range(0, len(found), an_epoch):
        epoch = found[start : start + an_epoch]
        assert len(np.unique(np.concatenate(epoch))) == sum(map(len, epoch))
        assert [len(step) for step in epoch[:-1]] == [batch] * (len(epoch) - 1)
        assert 1 <= len(epoch[-1]) <= batch
    assert all(np.array_equal(a, b) for a, b in zip(found, order(rows, epochs, batch, seed), strict=True))


def test_one_epoch_of_fewer_rows_than_a_batch_is_one_pass() -> None:
    (step,) = order(28, 1, 512, seed=0)
    assert sorted(step.tolist()) == list(range(28))
