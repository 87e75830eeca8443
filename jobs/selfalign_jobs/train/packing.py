"""A micro batch as one flat sequence in which the answers to a prompt share one copy of it.

An example of a prompt p₁…p_P and answers a₁…a_A, b₁…b_B, … takes P−1+A+B+… places:

    prefix   p₁ … p_{P−1}                   positions 0 … P−2
    answer   p_P a₁ … a_{A−1}  → a₁ … a_A   positions P−1 … P+A−2
    answer   p_P b₁ … b_{B−1}  → b₁ … b_B   positions P−1 … P+B−2

The prompt's last token stands once before each answer and an answer's last token nowhere: a place has at most one target,
and an answer's targets are one run of places. An answer of no tokens takes none. Where rewards are read, prompt and answers
stand whole: P+A+B+… places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selfalign_jobs.train.batch import Example, MicroBatch, Packing, Span


def pack(
    examples: Sequence[Example], rows: np.ndarray, answers: int, *, rewards: bool = False, multiple: int = 1
) -> MicroBatch:
    """One flat sequence of the examples, which are the table's `rows`, filled up to a multiple of places.

    For `rewards` prompt and answers stand there whole, and each answer's last place is read.

    No examples make a short sequence that scores nothing: what a rank runs where the others still have some.
    """
    layout = _Flat(rewards)
    lengths = np.array([[len(answer) for answer in given] for _, given in examples], np.int64).reshape(-1, answers)
    for number, (prompt, given) in enumerate(examples):
        layout.add(number, prompt, given)
    layout.fill(-layout.at % multiple if examples else max(2, multiple))
    packing = layout.packing()
    tokens = sum(len(prompt) * sum(len(answer) > 0 for answer in given) for prompt, given in examples)
    return MicroBatch(
        input_ids=_joined(layout.ids)[None],
        position_ids=packing.position_of[None],
        packing=packing,
        targets=_joined(layout.targets),
        targets_at=torch.from_numpy(layout.targets_at()),
        answer_lengths=torch.from_numpy(np.minimum(lengths, 1) if rewards else lengths),
        examples=torch.from_numpy(rows.astype(np.int64)),
        tokens=tokens + int(lengths.sum()),
        places=layout.at,
    )


class _Flat:
    """A flat sequence as it grows, piece by piece: a prefix, an answer. What is said of each place is made at the end."""

    def __init__(self, rewards: bool) -> None:
        self._rewards = rewards
        self.at = 0
        self.ids: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self._read: list[tuple[int, int]] = []  # the places that have targets: from, until
        self._pieces: list[tuple[int, int, int, int]] = []  # example, part, first position, length
        self._spans: list[Span] = []

    def add(self, number: int, prompt: np.ndarray, answers: Sequence[np.ndarray]) -> None:
        """An example: its prefix, seen with the first answer as one sequence, and each further answer beside it."""
        before, prefix = self.at, prompt if self._rewards else prompt[:-1]
        until, start = before + len(prefix), before  # what the next span begins with: the prefix, then an answer alone
        self._grow(number, 0, 0, prefix)
        for part, answer in enumerate(answers, 1):
            if len(answer) == 0:
                continue
            if self._rewards:
                self._grow(number, part, len(prefix), answer)
                self.targets.append(answer[-1:])
                self._read.append((self.at - 1, self.at))
            else:
                self._grow(number, part, len(prefix), prompt[-1:], answer[:-1])
                self.targets.append(answer)
                self._read.append((self.at - len(answer), self.at))
            self._spans.append((before, start if start == before else until, start, self.at))
            start = self.at

    def fill(self, count: int) -> None:
        """Places that see themselves and score nothing."""
        if count:
            self._grow(-1, 0, 0, np.zeros(count, np.int64))
            self._spans.append((self.at - count, self.at - count, self.at - count, self.at))

    def _grow(self, number: int, part: int, position: int, *ids: np.ndarray) -> None:
        length = sum(map(len, ids))
        self.ids += ids
        self._pieces.append((number, part, position, length))
        self.at += length

    def targets_at(self) -> np.ndarray:
        """The places that have targets, one after another."""
        start, end = np.array(self._read, np.int64).reshape(-1, 2).T
        return _ranges(start, end)

    def packing(self) -> Packing:
        """Who sees whom."""
        gathered = np.array(self._spans).reshape(-1, 2).T  # of each span what it sees before itself, then itself
        before, until, start, end = np.array(self._spans).T
        queries, keys = end - start, until - before + end - start
        example, part, position, length = np.array(self._pieces).T
        return Packing(
            spans=tuple(self._spans),
            key_index=torch.from_numpy(_ranges(*gathered)),
            query_starts=torch.tensor([0, *np.cumsum(queries)], dtype=torch.int32),
            key_starts=torch.tensor([0, *np.cumsum(keys)], dtype=torch.int32),
            longest_query=int(queries.max()),
            longest_keys=int(keys.max()),
            example_of=torch.from_numpy(np.repeat(example, length)),
            part_of=torch.from_numpy(np.repeat(part, length)),
            position_of=torch.from_numpy(_ranges(position, position + length)),
        )


def _ranges(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """start₀ … end₀−1, start₁ … end₁−1, …"""
    lengths = end - start
    found: np.ndarray = np.arange(lengths.sum()) + np.repeat(start - np.cumsum(lengths) + lengths, lengths)
    return found


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([*parts, np.zeros(0, np.int64)], dtype=np.int64))
