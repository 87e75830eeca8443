"""Batches of pairs as tensors, and the forward that policy and reference share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer import utils as trl_utils

IGNORED = -100  # a position that is no target: prompt and padding


@dataclass(frozen=True)
class PairCollator:
    """Pads pairs on the right: rows 0…B−1 are the chosen sequences, B…2B−1 the rejected ones.

    Gives input_ids and targets of shape (2B, longest), pair of shape (B,): which pair it is, and tokens: how many are real.
    """

    pad_id: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Examples carry prompt_ids, chosen_ids, rejected_ids (lists of token ids) and pair (their row)."""
        rows = [(e["prompt_ids"], e[response]) for response in ("chosen_ids", "rejected_ids") for e in examples]
        longest = max(len(prompt) + len(response) for prompt, response in rows)
        inputs, targets, tokens = [], [], 0
        for prompt, response in rows:
            padding = longest - len(prompt) - len(response)
            inputs.append([*prompt, *response, *([self.pad_id] * padding)])
            tokens += longest - padding
            targets.append([IGNORED] * len(prompt) + [*response] + [IGNORED] * padding)
        return {
            "input_ids": torch.tensor(inputs),
            "targets": torch.tensor(targets),
            "pair": torch.tensor([e["pair"] for e in examples]),
            "tokens": torch.tensor(tokens),
        }


def add_scoring_head(model: Any) -> None:
    """Give the model TRL's fused head, which never holds logits of (2B, length, vocabulary), and let it score targets only.

    Without Triton TRL's head scores every position, prompts and padding too, so that a compiler sees equal shapes; there
    is no compiler here, and answers are the smaller part of a sequence.
    """
    trl_utils._use_triton = lambda _: True  # read in the fused forward alone; the kernels have their own
    trl_utils.add_fused_lm_head(model)


def response_log_probs(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed log-probability (float32, nats) and length in tokens of each response, both of shape (2B,).

    `model` has a scoring head. There is no attention mask: the padding is on the right, where causal attention never looks,
    and without a mask attention takes its fast kernels.
    """
    targets = inputs["targets"]
    outputs = model(input_ids=inputs["input_ids"], labels=targets, use_cache=False, fused_lm_head=True)
    length = (targets[:, 1:] != IGNORED).sum(dim=1)
    return outputs.log_probs.float().sum(dim=1), length
