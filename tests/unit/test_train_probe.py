"""From two measurements to the places of a micro batch: the line, what the ranks agree on, the dummies, and trouble."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.optimization import Adafactor

from selfalign_jobs.step.context import Summary
from selfalign_jobs.step.ending import ending
from selfalign_jobs.train.batch import MicroBatch
from selfalign_jobs.train.job import error_of, outcome_of
from selfalign_jobs.train.loader import collator
from selfalign_jobs.train.probe import (
    MEASURED,
    MOST_PLACES,
    SHARE,
    Bounds,
    Measured,
    agreed_places,
    dummies,
    measured_places,
    places_within,
    states_to_come,
)
from selfalign_jobs.train.steps import Layout, lowest_budget, order, places_of, plan_step

GIB = 2**30
amounts = st.integers(0, 80 * GIB)
LOW, HIGH = 2_048, 4_096
layouts = st.sampled_from([Layout(packed=True), Layout(packed=False), Layout(packed=True, rewards=True)])


def on_a_line(constant: int, slope: int) -> tuple[Measured, Measured]:
    """Two measurements of memory that grows with the places."""
    low, high = (Measured(places, constant + slope * places) for places in (LOW, HIGH))
    return low, high


@given(constant=amounts, slope=st.integers(1, 4 << 20), free=amounts)
def test_as_many_places_as_take_the_share_of_what_is_free(constant: int, slope: int, free: int) -> None:
    found = places_within(*on_a_line(constant, slope), free)
    assert 1 <= found <= MOST_PLACES
    if found > 1:
        assert constant + slope * (found - 1) <= SHARE * free
    if found < MOST_PLACES:
        assert constant + slope * (found + 1) >= SHARE * free


@given(constant=amounts, slope=st.integers(0, 4 << 20), free=amounts, more=amounts)
def test_more_free_memory_never_means_fewer_places(constant: int, slope: int, free: int, more: int) -> None:
    line = on_a_line(constant, slope)
    assert places_within(*line, free) <= places_within(*line, free + more)


@given(low=amounts, less=amounts, free=amounts)
def test_memory_that_does_not_grow_is_no_bound_but_what_was_measured_is(low: int, less: int, free: int) -> None:
    found = places_within(Measured(LOW, low), Measured(HIGH, max(0, low - less)), free)
    assert found == (MOST_PLACES if max(0, low - less) <= SHARE * free else LOW)


@given(st.integers(1, 5_000), amounts, amounts)
def test_one_size_measured_twice_is_a_line_too(places: int, taken: int, free: int) -> None:
    assert 1 <= places_within(Measured(places, taken), Measured(places, taken), free) <= MOST_PLACES


@given(st.lists(st.integers(1, MOST_PLACES), min_size=1, max_size=16), st.integers(1, 9_000))
def test_ranks_agree_on_the_least_and_the_largest_example_has_room(measured: list[int], largest: int) -> None:
    found = agreed_places(measured, largest)
    assert found >= largest
    assert found == largest or all(found <= mine for mine in measured)


example = st.tuples(st.integers(1, 60), st.integers(1, 80), st.integers(1, 80))


@given(
    rows=st.lists(example, min_size=1, max_size=60),
    layout=layouts,
    batch=st.integers(1, 20),
    ranks=st.integers(1, 5),
    spare=st.integers(0, 900),
    seed=st.integers(0, 9),
)
def test_the_lowest_budget_leaves_every_steps_micro_batches_as_they_are(
    rows: list[tuple[int, int, int]], layout: Layout, batch: int, ranks: int, spare: int, seed: int
) -> None:
    lengths = np.array(rows, dtype=np.int64)
    budget = int(places_of(lengths, layout).max()) + spare
    steps = order(len(rows), 1, batch, seed)
    found = lowest_budget(lengths, steps, ranks, budget, layout)
    assert found <= budget
    for taken in steps:
        before, after = (plan_step(lengths[taken], ranks, places, layout) for places in (budget, found))
        assert all(
            np.array_equal(one, other)
            for mine, others in zip(before, after, strict=True)
            for one, other in zip(mine, others, strict=True)
        )
    if layout.packed and found > int(places_of(lengths, layout).max()):  # and below it some step has more of them
        fewer = [len(plan_step(lengths[taken], ranks, found - 1, layout)[0]) for taken in steps]
        assert fewer != [len(plan_step(lengths[taken], ranks, found, layout)[0]) for taken in steps]


@given(layouts, st.integers(1, 3), st.integers(8, 9_000), st.integers(8, 200_000))
def test_dummies_are_two_sizes_within_the_trainings_bounds(
    layout: Layout, answers: int, largest: int, step: int
) -> None:
    step = max(step, largest)
    made = dummies(np.arange(1, 50), answers, Bounds(largest, step), layout, collator(layout, answers))
    slack = 2 * answers  # of a division by the answers, and a prompt
    low, high = (micro.places for micro in made)
    assert low <= high
    if layout.packed:
        top = min(MEASURED, step)
        assert abs(high - top) <= slack * (1 + top // largest)
        assert abs(low - top // 2) <= slack * (1 + top // largest)
    else:
        assert all(abs(micro.input_ids.shape[1] - largest // answers) <= 1 for micro in made)  # as long as it can be
        assert high <= max(largest, min(step, max(MEASURED, 2 * largest))) + slack
    for micro in made:
        assert (micro.answer_lengths > 0).all()
        assert len(micro.targets) >= (len(micro.answer_lengths) if layout.rewards else 0.4 * micro.places)


class Played:
    """A gauge that says what a test wants, and runs what it is given."""

    def __init__(self, free: int, taken: list[int]) -> None:
        self._free, self._taken = free, taken

    def free(self) -> int:
        return self._free

    def taken(self, act: Callable[[], None]) -> int:
        act()
        return self._taken.pop(0)


def two() -> tuple[MicroBatch, MicroBatch]:
    layout = Layout(packed=True)
    return dummies(np.arange(1, 50), 2, Bounds(500, 100_000), layout, collator(layout, 2))


def test_both_dummies_run_and_the_first_once_more_before_anything_is_measured() -> None:
    seen: list[int] = []
    low, high = two()
    gauge = Played(10 * GIB, [1 * GIB, 2 * GIB])
    found = measured_places(lambda micro: seen.append(micro.places), (low, high), gauge, reserved=0)
    assert seen == [low.places, low.places, high.places]
    slope = GIB / (high.places - low.places)
    assert found == int(low.places + (SHARE * 10 * GIB - GIB) / slope)


def test_what_the_optimiser_will_take_is_not_free() -> None:
    measured = partial(measured_places, lambda _: None, two())
    assert measured(Played(10 * GIB, [GIB, 2 * GIB]), reserved=4 * GIB) == measured(
        Played(6 * GIB, [GIB, 2 * GIB]), reserved=0
    )


def test_out_of_memory_says_at_which_size_and_what_to_lower() -> None:
    low, high = two()

    def run(micro: MicroBatch) -> None:
        if micro is high:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(RuntimeError) as raised:
        measured_places(run, (low, high), Played(GIB, [1]), reserved=0)
    error = error_of([outcome_of(0, raised.value)], range(1), 1, stop_asked=False)
    assert error is not None

    def fail() -> Summary:
        raise error

    code, message = ending(fail)
    assert code == 1
    words = message["error"]
    assert f"GPU out of memory before the first step: a micro batch of {high.places} tokens does not fit" in words
    for what in ("spec.compute.training.microBatchTokens", "offload: Optimizer", "zeroStage", "gpusPerNode"):
        assert what in words


@pytest.mark.parametrize(
    ("make", "moments"),
    [(torch.optim.AdamW, 2), (torch.optim.RMSprop, 1), (partial(Adafactor, relative_step=False, lr=1e-3), 0)],
    ids=["AdamW", "RMSprop", "Adafactor"],
)
def test_an_optimiser_has_its_states_to_come_until_it_has_stepped(
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer], moments: int
) -> None:
    trained, frozen = torch.nn.Parameter(torch.ones(64, 32)), torch.nn.Parameter(torch.ones(9), requires_grad=False)
    optimizer = make([trained, frozen])
    wrapped = type("Wrapped", (), {"optimizer": optimizer})()
    before = states_to_come(wrapped, torch.device("cpu"))
    assert before == moments * trained.nbytes
    assert states_to_come(wrapped, torch.device("meta")) == 0
    trained.grad = torch.ones_like(trained)
    optimizer.step()
    assert states_to_come(wrapped, torch.device("cpu")) == 0
    large = sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if getattr(value, "ndim", 0) == 2
    )
    assert large == before
