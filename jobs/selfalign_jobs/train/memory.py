"""What a training takes of each rank's device, estimated before there is an engine: which ZeRO stage fits, what a CPU bears.

On a GPU the places of a micro batch are measured once there is one (probe.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.machine import free_memory_here
from selfalign_jobs.train.settings import rank_count

ACTIVATION_SHARE = 0.6  # of what the model's states leave; the rest is for fragmentation, buffers and other programs
MOST_ON_CPU = 2_048  # places of a micro batch there; beyond it a larger one is no faster
ROOMY = 4_096  # of one on a GPU; with fewer it waits for weights and gradients more than it computes


@dataclass(frozen=True)
class Estimate:
    """Of a model's training on devices that have so much memory."""

    shape: Mapping[str, Any]  # the model's config.json
    parameters: float
    memory: float  # bytes of a rank's device
    settings: TrainSettings
    means: TrainingMeans

    @classmethod
    def of(cls, folder: Path, settings: TrainSettings, means: TrainingMeans, ranks_here: int) -> Self:
        """Of the model in a folder, on the devices of this node, which has so many ranks."""
        config = json.loads((folder / "config.json").read_text())
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        parameters = weights / (4 if str(config.get("dtype", config.get("torch_dtype"))) == "float32" else 2)
        return cls(config.get("text_config", config), parameters, _memory(means, ranks_here), settings, means)

    def zero_stage(self, largest: int) -> int:
        """2 where its states leave room for a micro batch that is worth it, and for the largest example, else 3.

        Stage 3 gathers the weights for every pass of every layer, which stage 2 has in place.
        """
        return 2 if self.places(2) >= max(largest, ROOMY) else 3

    def room(self, zero_stage: int | None) -> int | None:
        """Places of a micro batch on a CPU, where there is nothing to measure by; None: a GPU's are measured."""
        return min(MOST_ON_CPU, self.places(zero_stage)) if self.means.device == "CPU" else None

    def places(self, zero_stage: int | None) -> int:
        """Places of a micro batch that fits beside the states of that stage (None: without DeepSpeed); at least 1."""
        taken = state_bytes(self.parameters, self.settings, self.means, zero_stage) + dora_bytes(
            self.shape, self.settings
        )
        room = ACTIVATION_SHARE * (self.memory - taken) / token_bytes(self.shape, self.settings, self.means)
        return max(1, int(room))


def token_bytes(shape: Mapping[str, Any], settings: TrainSettings, means: TrainingMeans) -> float:
    """Bytes that a place takes in a forward and backward pass; `shape` is a model's config."""
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    layer = (10 * hidden + 4 * _feed_forward(shape)) * _width(settings)
    if settings.lora is not None and settings.lora.dora:
        layer *= 2  # what each matrix gives is kept twice more, before its magnitude and of the adapter alone
    kept = hidden * _width(settings)
    activations = layers * kept + layer if means.activation_checkpointing == "Full" else layers * layer
    return float(activations + 6 * shape["vocab_size"])


def dora_bytes(shape: Mapping[str, Any], settings: TrainSettings) -> float:
    """Bytes that DoRA takes while it finds the norms of the largest matrix: the adapter's product, of a unit matrix, in float32."""
    if settings.lora is None or not settings.lora.dora:
        return 0.0
    hidden, wide = shape["hidden_size"], _feed_forward(shape)
    return float(4 * wide * wide + (4 + 3 * _width(settings)) * hidden * wide)


def state_bytes(parameters: float, settings: TrainSettings, means: TrainingMeans, zero_stage: int | None) -> float:
    """Bytes of weights, gradients and optimiser states in one rank's device memory (ZeRO, arXiv 1910.02054, figure 1)."""
    width, ranks = _width(settings), rank_count(means)
    trained = 0.02 if settings.lora is not None else 1.0  # adapters are a few hundredths of a model
    if zero_stage is None:  # autocast: what is trained has weights, gradients and moments in float32
        frozen = width if settings.lora is not None else 0  # policy.training_dtype
        return parameters * (frozen + trained * 16)
    shards = {stage: ranks if zero_stage >= stage else 1 for stage in (1, 2, 3)}
    weights = parameters * width / shards[3]
    gradient = 2 if settings.precision == "float16" else 4  # they add up in float32
    gradients = parameters * trained * gradient / shards[2]
    optimizer = parameters * trained * 12 / shards[1]
    if means.offload == "None":
        return weights + gradients + optimizer
    return gradients if means.offload == "OptimizerAndParameters" else weights + gradients


def _feed_forward(shape: Mapping[str, Any]) -> int:
    found: int = shape.get("intermediate_size", 4 * shape["hidden_size"])
    return found


def _width(settings: TrainSettings) -> int:
    return 4 if settings.precision == "float32" else 2


def _memory(means: TrainingMeans, ranks_here: int) -> float:
    """Of the smallest device here."""
    if means.device == "GPU":
        import torch

        return float(min(torch.cuda.get_device_properties(index).total_memory for index in range(ranks_here)))
    return free_memory_here() / ranks_here
