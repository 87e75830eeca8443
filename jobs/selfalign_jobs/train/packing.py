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

from selfalign_jobs.train.batch import Example, MicroBatch, Packing


def pack(
    examples: Sequence[Example], rows: np.ndarray, answers: int, *, rewards: bool = False, multiple: int = 1
) -> MicroBatch:
    """One flat sequence of the examples, which are the table's `rows`, filled up to a multiple of places.

    For `rewards` prompt and answers stand there whole, and each answer's last place is read.

    No examples make a short sequence that scores nothing: what a rank runs where the others still have some.
    """
    layout = _Flat(rewards)
    lengths = np.zeros((len(examples), answers), np.int64)
    for number, (prompt, given) in enumerate(examples):
        layout.add(number, prompt, given)
        lengths[number] = [len(answer) for answer in given]
    tokens = sum(len(prompt) * int((row > 0).sum()) for (prompt, _), row in zip(examples, lengths, strict=True))
    layout.fill(-layout.at % multiple if examples else max(2, multiple))
    return MicroBatch(
        input_ids=_joined(layout.ids)[None],
        position_ids=_joined(layout.positions)[None],
        packing=layout.packing(),
        targets=_joined(layout.targets),
        targets_at=_joined(layout.targets_at),
        answer_lengths=torch.from_numpy(np.minimum(lengths, 1) if rewards else lengths),
        examples=torch.from_numpy(rows.astype(np.int64)),
        tokens=tokens + int(lengths.sum()),
        places=layout.at,
    )


class _Flat:
    """A flat sequence as it grows."""

    def __init__(self, rewards: bool) -> None:
        self._rewards = rewards
        self.at = 0
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.targets_at: list[np.ndarray] = []
        self._spans: list[tuple[int, int, int, int]] = []
        self._examples: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []

    def add(self, number: int, prompt: np.ndarray, answers: Sequence[np.ndarray]) -> None:
        """An example: its prefix, seen with the first answer as one sequence, and each further answer beside it."""
        before, prefix = self.at, prompt if self._rewards else prompt[:-1]
        until, start = before + len(prefix), before  # what the next span begins with: the prefix, then an answer alone
        self._grow(number, 0, prefix, 0)
        for part, answer in enumerate(answers, 1):
            if len(answer) == 0:
                continue
            given = answer if self._rewards else np.concatenate([prompt[-1:], answer[:-1]])
            read = slice(-1, None) if self._rewards else slice(None)
            self.targets.append(answer[read])
            self.targets_at.append(np.arange(self.at, self.at + len(answer))[read])
            self._grow(number, part, given, len(prefix))
            self._spans.append((before, start if start == before else until, start, self.at))
            start = self.at

    def fill(self, count: int) -> None:
        """Places that see themselves and score nothing."""
        if count:
            self._grow(-1, 0, np.zeros(count, np.int64), 0)
            self._spans.append((self.at - count, self.at - count, self.at - count, self.at))

    def _grow(self, number: int, part: int, ids: np.ndarray, position: int) -> None:
        self.ids.append(ids)
        self.positions.append(np.arange(position, position + len(ids)))
        self._examples.append(np.full(len(ids), number))
        self._parts.append(np.full(len(ids), part))
        self.at += len(ids)

    def packing(self) -> Packing:
        """Who sees whom."""
        queries = [end - start for _, _, start, end in self._spans]
        keys = [until - before + end - start for before, until, start, end in self._spans]
        gathered = [np.arange(*ends) for span in self._spans for ends in (span[:2], span[2:])]
        return Packing(
            spans=tuple(self._spans),
            key_index=_joined(gathered),
            query_starts=torch.tensor(np.cumsum([0, *queries]), dtype=torch.int32),
            key_starts=torch.tensor(np.cumsum([0, *keys]), dtype=torch.int32),
            longest_query=max(queries),
            longest_keys=max(keys),
            example_of=_joined(self._examples),
            part_of=_joined(self._parts),
            position_of=_joined(self.positions),
        )


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64))
