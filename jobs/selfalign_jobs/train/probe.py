"""How many places a micro batch may have, measured: two dummy ones run before the first step, and a line goes through them.

Their loss is 0 times that of answers, so the gradients that they leave behind are 0, and the step that follows is the one
that would have been without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from selfalign_jobs.train.batch import Example, MicroBatch
from selfalign_jobs.train.loader import Collate
from selfalign_jobs.train.steps import Layout

SHARE = 0.85  # of the memory that is free; the rest is for fragments, and for what is longer or shorter than measured
MOST_PLACES = 32_768  # of a micro batch; beyond it a larger one is no faster
MEASURED = 4_096  # places of the larger dummy
MOMENTS = {
    "AdamW": 2,
    "RMSprop": 1,
}  # states of an optimiser as large as what it steps; Adafactor's are rows and columns


class Gauge(Protocol):
    """What says how much memory there is."""

    def free(self) -> int:
        """Bytes that can still be taken."""

    def taken(self, act: Callable[[], None]) -> int:
        """Bytes that `act` takes at its height, beyond what is taken before it."""


class CudaGauge:
    """Of this rank's GPU."""

    def free(self) -> int:
        """What the driver has left, and what torch holds without using it."""
        torch.cuda.synchronize()
        of_driver: int = torch.cuda.mem_get_info()[0]
        return int(of_driver + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())

    def taken(self, act: Callable[[], None]) -> int:
        """By torch's own count."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        act()
        torch.cuda.synchronize()
        height = int(torch.cuda.max_memory_allocated())
        return int(height - before)


@dataclass(frozen=True)
class Measured:
    """What a pass over a micro batch took."""

    places: int
    bytes: int


@dataclass(frozen=True)
class Bounds:
    """Of a training, in places."""

    largest: int  # example
    step: int  # of a rank, in the fullest step


def measured_places(
    run: Callable[[MicroBatch], object], dummies: tuple[MicroBatch, MicroBatch], gauge: Gauge, reserved: int
) -> int:
    """Places of a micro batch that `run` has room for on this rank, `reserved` bytes of the free ones left alone.

    Raises RuntimeError, in words, where not even the dummies have room.
    """
    low, high = dummies
    _run(run, low)  # what is made once is there afterwards: gradients, buffers, kernels
    free = gauge.free() - reserved
    first, second = (Measured(micro.places, gauge.taken(partial(_run, run, micro))) for micro in (low, high))
    return places_within(first, second, free)


def places_within(low: Measured, high: Measured, free: int) -> int:
    """Places that a line through two measurements puts into the share of what is free; at least 1."""
    room = SHARE * free
    slope = (high.bytes - low.bytes) / max(1, high.places - low.places)
    if slope <= 0:  # memory does not follow the places: all fit, or what was measured is all there is
        return MOST_PLACES if high.bytes <= room else low.places
    return max(1, min(MOST_PLACES, int(low.places + (room - low.bytes) / slope)))


def agreed_places(measured: Sequence[int], largest: int) -> int:
    """Of what each rank has measured the least: they run alike. An example longer than that is tried all the same."""
    return max(largest, min(measured))


def _run(run: Callable[[MicroBatch], object], micro: MicroBatch) -> None:
    try:
        run(micro)
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"GPU out of memory before the first step: a micro batch of {micro.places} tokens does not fit beside the "
            f"model, its gradients and its optimiser ({error})"
        ) from error


def dummies(
    ids: np.ndarray, answers: int, bounds: Bounds, layout: Layout, collate: Collate
) -> tuple[MicroBatch, MicroBatch]:
    """Two micro batches, the second twice as large where the training's bounds let it, of these token ids.

    Almost every place has a target, the most that the output head can meet. Packed, memory follows the places; padded,
    attention may follow the square of the longest sequence, so those examples are the training's largest.
    """

    def dummy(places: int) -> MicroBatch:
        size = min(places, bounds.largest) if layout.packed else bounds.largest
        count = max(1, places // size)
        sizes = [size] * count
        if layout.packed and (rest := places - count * size) >= 2 * answers:
            sizes.append(rest)
        examples = [_example(ids, answers, size, layout) for size in sizes]
        return collate(examples, np.zeros(len(examples), np.int64))

    most = (
        min(MEASURED, max(bounds.largest, bounds.step))
        if layout.packed
        else max(bounds.largest, min(bounds.step, max(MEASURED, 2 * bounds.largest)))
    )
    return dummy(most // 2), dummy(most)


def _example(ids: np.ndarray, answers: int, places: int, layout: Layout) -> Example:
    """One of about so many places: a prompt of one token, answers of the same length."""
    length = max(1, places // answers - (0 if layout.packed else 1))
    return np.resize(ids, 1), [np.resize(ids, length)] * answers


def states_to_come(optimizer: Any, device: torch.device) -> int:
    """Bytes of optimiser states on a device that appear with its first step: torch and DeepSpeed make them then."""
    shards: list[torch.Tensor] = []
    while (inner := getattr(optimizer, "optimizer", None)) is not None:  # accelerate's, then ZeRO's, then torch's
        optimizer = inner
        shards = shards or getattr(optimizer, "fp32_partitioned_groups_flat", [])  # ZeRO-3 hands them over one by one
    stepped = shards or [part for group in optimizer.param_groups for part in group["params"]]
    here = sum(part.nbytes for part in stepped if part.device.type == device.type and part.requires_grad)
    there: int = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.device.type == device.type
    )
    return max(0, int(MOMENTS.get(type(optimizer).__name__, 0) * here - there))
