"""Samples as padded token tensors, with a weight for each token of the reply."""

from typing import NamedTuple

import torch
from language import LABELS
from samples import Sample
from tokenizer import END, chat
from transformers import PreTrainedTokenizerFast


class Batch(NamedTuple):
    """`ids` [sequences, length], padded on the right; `weights` [sequences, length - 1], of predicting ids[:, 1:]."""

    ids: torch.Tensor
    weights: torch.Tensor


def make_batch(tokenizer: PreTrainedTokenizerFast, samples: list[Sample], label_weight: float = 1.0) -> Batch:
    """Only the reply and its end of turn are learnt. Right padding needs no mask under causal attention."""
    prompts = tokenizer([chat(sample.prompt) for sample in samples])["input_ids"]
    replies = tokenizer([sample.reply + END for sample in samples])["input_ids"]
    labels = set(tokenizer.convert_tokens_to_ids(list(LABELS)))
    length = max(len(prompt) + len(reply) for prompt, reply in zip(prompts, replies, strict=True))
    ids = torch.full((len(samples), length), tokenizer.pad_token_id)
    weights = torch.zeros(len(samples), length)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        start, end = len(prompt), len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        weights[row, start:end] = torch.tensor([label_weight if token in labels else 1.0 for token in reply])
    return Batch(ids, weights[:, 1:])
