"""Classifiers: which of a model's outputs is an answer's score, and what such a model reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from selfalign_api.errors import ConfigError
from selfalign_api.sources import ModelSource
from selfalign_jobs.generate.chat import History, ModelChat
from selfalign_jobs.generate.score_render import Conversations, Reading
from selfalign_jobs.generate.tokenizer import chat_templates


class Answers:
    """One text, framed by the tokenizer itself ([CLS] … [SEP]): what a classifier without a chat template was taught."""

    def __init__(self, backend: Tokenizer) -> None:
        self._tokenizer = backend
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ids(self, prompt: str, answer: str | None, history: History = ()) -> list[int]:  # noqa: ARG002
        """Ids of the answer; of the prompt where that is scored alone."""
        ids: list[int] = self._tokenizer.encode(prompt if answer is None else answer).ids
        return ids


def reading_of(model: Path, given: ModelSource | None) -> Reading:
    """Conversations by the folder's own chat template, or where it has none, answers alone."""
    if chat_templates(model):
        return Conversations(ModelChat.of(model, given))
    return Answers(Tokenizer.from_file(str(model / "tokenizer.json")))


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """The labels that a config.json names, in the order of the outputs."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return [f"LABEL_{number}" for number in range(config.get("num_labels") or 2)]
    return [str(label) for _, label in sorted(named.items(), key=lambda each: int(each[0]))]


def output_of(model: Path, label: str, field: str) -> int:
    """Which output is that label's. Raises ConfigError for one that the model does not have."""
    labels = labels_of(json.loads((model / "config.json").read_text(encoding="utf-8")))
    if label not in labels:
        raise ConfigError.one(field, f"is none of the model's labels; write one of: {', '.join(labels)}", label)
    return labels.index(label)


def log_odds(logits: Sequence[float], label: int) -> float:
    """Log p(label) − log p(any other), in nats, of raw outputs."""
    others = [logit for number, logit in enumerate(logits) if number != label]
    most = max(others)
    return logits[label] - most - math.log(sum(math.exp(logit - most) for logit in others))
