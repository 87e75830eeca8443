"""How many tokens fit in a micro batch, estimated from the memory that is there (compute.training.microBatchTokens unset)."""

from __future__ import annotations

import json
from pathlib import Path

from selfalign_api.plan import TrainingMeans, TrainSettings
from selfalign_jobs.machine import free_memory_here

ACTIVATION_SHARE = 0.6  # of what the model's states leave; the rest is for fragmentation, buffers and other programs
MOST_TOKENS = {"GPU": 65_536, "CPU": 2_048}  # beyond it a larger micro batch is no faster, only more padded


def micro_batch_tokens(folder: Path, settings: TrainSettings, means: TrainingMeans, ranks: int, ranks_here: int) -> int:
    """Padded tokens that one forward and backward pass of one rank, of those on this node, can hold; at least 1."""
    width = 4 if settings.precision == "float32" else 2
    config = json.loads((folder / "config.json").read_text())
    shape = config.get("text_config", config)
    hidden, layers, vocabulary = shape["hidden_size"], shape["num_hidden_layers"], shape["vocab_size"]
    feed_forward = shape.get("intermediate_size", 4 * hidden)
    layer = (10 * hidden + 4 * feed_forward) * width
    activations = layers * hidden * width + layer if means.activation_checkpointing == "Full" else layers * layer
    per_token = activations + 6 * vocabulary
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    parameters = weights / (4 if str(config.get("dtype", config.get("torch_dtype"))) == "float32" else 2)
    room = _memory(means, ranks_here) - _states(parameters, width, settings, means, ranks)
    return max(1, min(MOST_TOKENS[means.device], int(ACTIVATION_SHARE * room / per_token)))


def _states(parameters: float, width: int, settings: TrainSettings, means: TrainingMeans, ranks: int) -> float:
    """Bytes of weights, gradients and optimiser states in one rank's device memory (ZeRO, arXiv 1910.02054, figure 1)."""
    trained = 0.02 if settings.lora is not None else 1.0  # adapters are a few hundredths of a model
    shards = {stage: ranks if means.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    weights = parameters * width / shards[3]
    gradients = parameters * trained * width / shards[2]
    optimizer = parameters * trained * 12 / shards[1]
    if means.offload == "None":
        return weights + gradients + optimizer
    return gradients if means.offload == "OptimizerAndParameters" else weights + gradients


def _memory(means: TrainingMeans, ranks_here: int) -> float:
    if means.device == "GPU":
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory)
    return free_memory_here() / ranks_here
