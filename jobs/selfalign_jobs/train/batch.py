"""Batches of pairs as tensors, and the forward that policy and reference share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # a position that is no target: prompt and padding


@dataclass(frozen=True)
class PairCollator:
    """Pads pairs on the right: rows 0…B−1 are the chosen sequences, B…2B−1 the rejected ones.

    Gives input_ids, attention_mask and targets of shape (2B, longest), and pair of shape (B,): which pair it is.
    """

    pad_id: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Examples carry prompt_ids, chosen_ids, rejected_ids (lists of token ids) and pair (their row)."""
        rows = [(e["prompt_ids"], e[response]) for response in ("chosen_ids", "rejected_ids") for e in examples]
        longest = max(len(prompt) + len(response) for prompt, response in rows)
        inputs, masks, targets = [], [], []
        for prompt, response in rows:
            padding = longest - len(prompt) - len(response)
            inputs.append([*prompt, *response, *([self.pad_id] * padding)])
            masks.append([1] * (longest - padding) + [0] * padding)
            targets.append([IGNORED] * len(prompt) + [*response] + [IGNORED] * padding)
        return {
            "input_ids": torch.tensor(inputs),
            "attention_mask": torch.tensor(masks),
            "targets": torch.tensor(targets),
            "pair": torch.tensor([e["pair"] for e in examples]),
        }


def response_log_probs(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed log-probability (float32, nats) and length in tokens of each response, both of shape (2B,).

    `model` has TRL's fused head (trl.trainer.utils.add_fused_lm_head), which never holds logits of (2B, length, vocabulary).
    """
    targets = inputs["targets"]
    outputs = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        labels=targets,
        use_cache=False,
        fused_lm_head=True,
    )
    length = (targets[:, 1:] != IGNORED).sum(dim=1)
    return outputs.log_probs.float().sum(dim=1), length
