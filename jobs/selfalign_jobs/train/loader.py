"""What the trainer reads: an item is an optimiser step, as the micro batches of one rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from torch.utils.data import DataLoader, Dataset

from selfalign_jobs.train.batch import Example, MicroBatch
from selfalign_jobs.train.dataset import TokenIds
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.steps import Layout, plan_step

Collate = Callable[[Sequence[Example], np.ndarray], MicroBatch]


@dataclass(frozen=True)
class StepBatch:
    """An optimiser step of one rank."""

    micro: tuple[MicroBatch, ...]  # as many on every rank
    examples: int  # of the step, on all ranks
    targets: int

    def pin_memory(self) -> Self:
        """The same in pinned memory."""
        return type(self)(tuple(micro.pin_memory() for micro in self.micro), self.examples, self.targets)


def collator(layout: Layout, answers: int, *, multiple: int = 1) -> Collate:
    """How examples become a micro batch; `multiple` of places, where a kernel wants it."""
    if layout.packed:
        return partial(pack, answers=answers, rewards=layout.rewards, multiple=multiple)
    return partial(pad, answers=answers, rewards=layout.rewards)


class Steps(Dataset[StepBatch]):
    """The optimiser steps of a training, each laid out when it is asked for."""

    def __init__(
        self,
        ids: TokenIds,
        lengths: np.ndarray,
        order: list[np.ndarray],
        *,
        ranks: int,
        rank: int,
        budget: int | None,
        layout: Layout,
        collate: Collate,
    ) -> None:
        """`order`: the rows that each step takes (steps.order); `lengths` of all rows (dataset.lengths_of).

        `budget` may be given later, before the first item is asked for.
        """
        self._ids, self._lengths, self._order = ids, lengths, order
        self._ranks, self._rank, self._layout = ranks, rank, layout
        self.budget = budget
        self._collate = collate

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> StepBatch:
        assert self.budget is not None
        rows = self._order[step]
        plan = plan_step(self._lengths[rows], self._ranks, self.budget, self._layout)[self._rank]
        micro = tuple(self._collate([self._ids[int(row)] for row in rows[held]], rows[held]) for held in plan)
        return StepBatch(micro, len(rows), int(self._lengths[rows, 1:].sum()))


def step_loader(steps: Steps, *, workers: int, prefetch: int | None, pin_memory: bool) -> DataLoader[StepBatch]:
    """The steps in their order, one an item."""
    return DataLoader(
        steps,
        batch_size=1,
        collate_fn=lambda items: items[0],
        num_workers=workers,
        prefetch_factor=prefetch,
        pin_memory=pin_memory,
    )
