"""A micro batch as tensors, whichever way it is laid out (packing.py, padding.py): what the model reads, what is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

Span = tuple[int, int, int, int]  # before, until, start, end
Example = tuple[np.ndarray, Sequence[np.ndarray]]  # a prompt and its answers, token ids


class _Moving:
    """A dataclass of tensors that goes to a device as one; DataLoader pins what has `pin_memory`."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True), lambda part: part.to(device))

    def pin_memory(self) -> Self:
        """The same in pinned memory."""
        return self._each(lambda tensor: tensor.pin_memory(), lambda part: part.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor], within: Callable[[_Moving], _Moving]) -> Self:
        tensors = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        parts = {name: within(value) for name, value in vars(self).items() if isinstance(value, _Moving)}
        return replace(self, **tensors, **parts)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Packing(_Moving):
    """Who sees whom in a flat sequence of T places, in the three forms that kernels want (attention.py)."""

    # The places start … end−1 see the places before … until−1, and of themselves those that are not later.
    spans: tuple[Span, ...]
    # The same for kernels that take sequences of unequal lengths, causal and aligned at their ends.
    key_index: Tensor  # place of each gathered key
    query_starts: Tensor  # int32, (spans + 1,)
    key_starts: Tensor
    longest_query: int
    longest_keys: int
    # The same for masks, (T,) each.
    example_of: Tensor  # −1: filling
    part_of: Tensor  # 0: the prompt; else the number of the answer
    position_of: Tensor
    kept: dict[tuple[str, int | None], Any] = field(default_factory=dict)  # a kernel's own form of it, by window


@dataclass(frozen=True, eq=False)
class MicroBatch(_Moving):
    """What one forward pass reads; `answers` of each of its `examples` are scored, those that are not there as 0."""

    input_ids: Tensor  # (sequences, length)
    position_ids: Tensor | None  # None: each sequence counts from 0
    packing: Packing | None  # None: each sequence is causal, what is padded stands at its end
    targets: Tensor  # (targets,): example by example, answer by answer
    targets_at: Tensor  # (targets,): where in the flattened input each is predicted
    answer_lengths: Tensor  # (examples, answers)
    examples: Tensor  # (examples,): rows of the table
    tokens: int  # of prompts and answers, a prompt once an answer: what other trainers count
    places: int  # of the input: what is computed
