"""How the examples of a training are dealt out: to epochs and optimiser steps, and within a step to ranks and micro batches.

Which examples a step takes depends on neither ranks, budget nor layout. Pure functions: every rank computes the same.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """How examples become micro batches: packed (packing.py) or padded (padding.py); read at targets or for rewards."""

    packed: bool
    rewards: bool = False


Plan = list[list[np.ndarray]]  # [rank][micro batch] → examples of the step


def order(rows: int, epochs: float, batch: int, seed: int) -> list[np.ndarray]:
    """Which examples each optimiser step takes, whatever ranks, budget and layout.

    Each epoch is a seeded permutation of all rows, cut into batches; its last batch holds what is left. The last epoch may
    be a part of one.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    steps: list[np.ndarray] = []
    for taken in passes(rows, epochs):
        permutation = generator.permutation(rows)[:taken]
        steps += np.split(permutation, range(batch, taken, batch))
    return steps


def passes(rows: int, epochs: float) -> list[int]:
    """How many examples each epoch takes: all of them, and in the last what is left."""
    total = max(1, round(rows * epochs))
    return [min(rows, total - start) for start in range(0, total, max(1, rows))]


def step_count(rows: int, epochs: float, batch: int) -> int:
    """Optimiser steps of a training."""
    return sum(max(1, -(-taken // batch)) for taken in passes(rows, epochs))


def places_of(lengths: np.ndarray, layout: Layout) -> np.ndarray:
    """Places that each example takes alone; `lengths` of shape (examples, 1 + answers), the prompt's first.

    Packed: its prompt once, and nothing predicts from the last token. Padded: a sequence an answer, as long as the longest.
    """
    answers = lengths[:, 1:]
    found: np.ndarray = lengths.sum(axis=1) - (0 if layout.rewards else 1)
    if not layout.packed:
        found = (lengths[:, 0] + answers.max(axis=1)) * answers.shape[1]
    return found


def plan_step(lengths: np.ndarray, ranks: int, budget: int, layout: Layout) -> Plan:
    """Deal the examples of a step into equally many micro batches a rank, none over the budget.

    Some stay empty only where there are fewer examples than micro batches (the end of an epoch). Raises ValueError for an
    example that is over the budget alone.
    """
    places = places_of(lengths, layout)
    if places.max() > budget:
        raise ValueError(f"an example of {places.max()} places is over the budget of {budget}")
    return _plan_packed(places, ranks, budget) if layout.packed else _plan_padded(places, ranks, budget)


def lowest_budget(lengths: np.ndarray, steps: list[np.ndarray], ranks: int, budget: int, layout: Layout) -> int:
    """The least budget under which each of the `steps` (rows of `lengths`) has the micro batches that it has under `budget`.

    So memory that differs a little from one attempt to the next gives the same sums in the same order.
    """
    return max(_largest_micro(places_of(lengths[rows], layout), ranks, budget, layout) for rows in steps)


def _largest_micro(places: np.ndarray, ranks: int, budget: int, layout: Layout) -> int:
    if layout.packed:
        return max(int(places[held].sum()) for mine in _plan_packed(places, ranks, budget) for held in mine)
    return max(len(run) * int(places[run[0]]) for run in _runs(places, budget))


def _plan_packed(places: np.ndarray, ranks: int, budget: int) -> Plan:
    """The fewest micro batches that hold the step; the longest example goes to the emptiest (LPT), so they come out alike."""
    count = max(1, -(-int(places.sum()) // (budget * ranks)))
    while True:
        loads, held = _dealt(places, count * ranks)
        if max(loads) <= budget:
            break
        count += 1
    # The k-th micro batches of the ranks run at the same time: they are alike in length, and no rank has all the longer ones.
    rows = np.argsort(-np.array(loads), kind="stable").reshape(count, ranks)
    rows[1::2] = rows[1::2, ::-1].copy()
    return [[np.sort(np.array(held[number], dtype=np.int64)) for number in rows[:, rank]] for rank in range(ranks)]


def _dealt(costs: np.ndarray, bins: int) -> tuple[list[int], list[list[int]]]:
    loads, held = [0] * bins, [[] for _ in range(bins)]  # type: tuple[list[int], list[list[int]]]
    emptiest = [(0, number) for number in range(bins)]
    for example in np.argsort(-costs, kind="stable").tolist():
        load, number = heapq.heappop(emptiest)
        held[number].append(example)
        loads[number] = load + int(costs[example])
        heapq.heappush(emptiest, (loads[number], number))
    return loads, held


def _plan_padded(places: np.ndarray, ranks: int, budget: int) -> Plan:
    """Examples that are padded together are alike in length, so that little is padding."""
    runs = _runs(places, budget)
    while len(runs) % ranks and max(map(len, runs)) > 1:
        largest = max(range(len(runs)), key=lambda number: len(runs[number]))
        runs[largest : largest + 1] = np.array_split(runs[largest], 2)
    runs += [runs[0][:0]] * (-len(runs) % ranks)
    return [[np.sort(run) for run in runs[rank::ranks]] for rank in range(ranks)]


def _runs(places: np.ndarray, budget: int) -> list[np.ndarray]:
    """The examples by size, the longest first, as many together as the budget bears at the length of the first."""
    by_size = np.argsort(-places, kind="stable")
    runs: list[np.ndarray] = []
    start = 0
    while start < len(by_size):
        room = int(budget // places[by_size[start]])
        runs.append(by_size[start : start + room])
        start += room
    return runs
