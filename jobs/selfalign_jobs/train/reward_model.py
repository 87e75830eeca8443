"""A reward model: `…ForSequenceClassification` whose last token transformers and vLLM both read.

transformers reads the last token that is not padding. Where padding is the end token, as chat models have it, that is one
token early, while vLLM reads the end token: so a reward model has a pad token of its own, which no answer ends with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig

PAD = "<|padding|>"


def load_reward_model(folder: Path, dtype: torch.dtype, *, remote_code: bool, attention: str | None) -> Any:
    """The model with one reward a sequence; a folder without such a head gets a random one."""
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=dtype, trust_remote_code=remote_code, attn_implementation=attention, num_labels=1
    )
    _, pad = tokenizer_with_own_pad(folder, remote_code=remote_code)
    if pad >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(pad + 1)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = pad
    model.config.problem_type = "regression"  # vLLM then gives raw rewards, not their sigmoid
    return model


def tokenizer_with_own_pad(folder: Path, *, remote_code: bool) -> tuple[Any, int]:
    """The folder's tokenizer, and the id of its pad token: a new one where padding is an end token or there is none."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=remote_code)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in _ends(folder, tokenizer, remote_code):
        tokenizer.add_special_tokens({"pad_token": PAD})
    return tokenizer, int(tokenizer.pad_token_id)


def _ends(folder: Path, tokenizer: Any, remote_code: bool) -> set[int]:
    """All that a text of this model may end with."""
    sources: list[Any] = [tokenizer.eos_token_id]
    sources.append(AutoConfig.from_pretrained(folder, trust_remote_code=remote_code).get_text_config().eos_token_id)
    if (folder / "generation_config.json").exists():
        sources.append(GenerationConfig.from_pretrained(folder).eos_token_id)
    return {token for each in sources for token in (each if isinstance(each, list) else [each]) if token is not None}
