"""Small random models of each architecture that is trained packed, and examples for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from selfalign_jobs.train.batch import Example
from selfalign_jobs.train.policy import attention_of, without_dropout
from selfalign_jobs.train.scoring import add_scoring_head

SHAPE: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
WINDOW = 24

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**{name: value for name, value in SHAPE.items() if name != "head_dim"}),
    "qwen2-windows": Qwen2Config(
        **{name: value for name, value in SHAPE.items() if name != "head_dim"},
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=1,
    ),
    "qwen3": Qwen3Config(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma2": Gemma2Config(
        **SHAPE,
        sliding_window=WINDOW,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
        query_pre_attn_scalar=12,
    ),
}


def model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model with a scoring head and its own attention."""
    config = CONFIGS[name]
    torch.manual_seed(1)
    made = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention_of(config))
    without_dropout(made)
    add_scoring_head(made)
    return made.train()


def examples(answers: int, count: int = 6, seed: int = 3) -> list[Example]:
    """Prompts and answers of all lengths; among them a prompt of one token and an answer of one."""
    rng = np.random.default_rng(seed)

    def ids(length: int) -> np.ndarray:
        return rng.integers(3, SHAPE["vocab_size"], length).astype(np.int32)

    sizes = rng.integers(1, 60, (count, 1 + answers))
    sizes[0, 0] = sizes[1, 1] = 1
    return [(ids(prompt), [ids(length) for length in lengths]) for prompt, *lengths in sizes.tolist()]
