"""How many tokens fit in a micro batch, estimated from the memory that is there (compute.training.microBatchTokens unset)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfalign_api.plan import TrainSettings
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.machine import free_memory_here
from selfalign_jobs.train.settings import uses_deepspeed

ACTIVATION_SHARE = 0.6  # of what the model's states leave; the rest is for fragmentation, buffers and other programs
MOST_TOKENS = {"GPU": 65_536, "CPU": 2_048}  # beyond it a larger micro batch is no faster


def micro_batch_tokens(folder: Path, settings: TrainSettings, means: TrainingMeans, ranks: int, ranks_here: int) -> int:
    """Tokens that one forward and backward pass of one rank, of those on this node, can hold; at least 1."""
    width = 4 if settings.precision == "float32" else 2
    config = json.loads((folder / "config.json").read_text())
    per_token = token_bytes(config.get("text_config", config), width, means)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    parameters = weights / (4 if str(config.get("dtype", config.get("torch_dtype"))) == "float32" else 2)
    room = _memory(means, ranks_here) - state_bytes(parameters, width, settings, means, ranks)
    return max(1, min(MOST_TOKENS[means.device], int(ACTIVATION_SHARE * room / per_token)))


def token_bytes(shape: Mapping[str, Any], width: int, means: TrainingMeans) -> float:
    """Bytes that a token takes in a forward and backward pass; `shape` is a model's config."""
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    layer = (10 * hidden + 4 * shape.get("intermediate_size", 4 * hidden)) * width
    activations = layers * hidden * width + layer if means.activation_checkpointing == "Full" else layers * layer
    return float(activations + 6 * shape["vocab_size"])


def state_bytes(parameters: float, width: int, settings: TrainSettings, means: TrainingMeans, ranks: int) -> float:
    """Bytes of weights, gradients and optimiser states in one rank's device memory (ZeRO, arXiv 1910.02054, figure 1)."""
    trained = 0.02 if settings.lora is not None else 1.0  # adapters are a few hundredths of a model
    if not uses_deepspeed(means):  # autocast: what is trained has weights, gradients and moments in float32
        frozen = width if settings.lora is not None else 0  # policy.training_dtype
        return parameters * (frozen + trained * 16)
    shards = {stage: ranks if means.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    weights = parameters * width / shards[3]
    gradients = (
        parameters * trained * (2 if settings.precision == "float16" else 4) / shards[2]
    )  # they add up in float32
    optimizer = parameters * trained * 12 / shards[1]
    if means.offload == "None":
        return weights + gradients + optimizer
    return gradients if means.offload == "OptimizerAndParameters" else weights + gradients


def _memory(means: TrainingMeans, ranks_here: int) -> float:
    if means.device == "GPU":
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory)
    return free_memory_here() / ranks_here
