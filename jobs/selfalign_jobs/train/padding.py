"""A micro batch as padded sequences, one an answer: for models whose attention the packed layout does not know (attention.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from selfalign_jobs.train.batch import Example, MicroBatch


def pad(examples: Sequence[Example], rows: np.ndarray, answers: int, *, rewards: bool = False) -> MicroBatch:
    """Padded on the right, where causal attention never looks: no mask is needed, and any id of the vocabulary does."""
    sequences = [(prompt, answer) for prompt, given in examples for answer in given if len(answer)]
    longest = max((len(prompt) + len(answer) for prompt, answer in sequences), default=2)
    ids = np.zeros((max(1, len(sequences)), longest), np.int64)
    targets, targets_at = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, (prompt, answer) in enumerate(sequences):
        ids[number, : len(prompt) + len(answer)] = np.concatenate([prompt, answer])
        last = number * longest + len(prompt) + len(answer) - 1
        targets.append(answer[-1:].astype(np.int64) if rewards else answer.astype(np.int64))
        targets_at.append(np.arange(last, last + 1) if rewards else np.arange(last - len(answer), last))
    lengths = np.array([[len(answer) for answer in given] for _, given in examples], np.int64)
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        position_ids=None,
        packing=None,
        targets=torch.from_numpy(np.concatenate(targets)),
        targets_at=torch.from_numpy(np.concatenate(targets_at)),
        answer_lengths=torch.from_numpy(
            (np.minimum(lengths, 1) if rewards else lengths).reshape(len(examples), answers)
        ),
        examples=torch.from_numpy(rows.astype(np.int64)),
        tokens=sum(len(prompt) + len(answer) for prompt, answer in sequences),
        places=ids.size,
    )
