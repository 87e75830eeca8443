"""The means that a compute with its profile's values comes to, once where it runs has said what an open count is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from selfalign_api.means import Compute, GenerationCompute, TrainingCompute
from selfalign_api.run_file import EngineCounts, GenerationMeans, Means, TrainingMeans

__all__ = ["Device", "Engines", "resolved_means", "trains_on_cpu"]

Device = Literal["CPU", "GPU"]


@dataclass(frozen=True)
class Engines:
    """How many engines, of how many GPUs each."""

    replicas: int
    tensor_parallel_size: int


def resolved_means(
    given: Compute,
    device: Device,
    generation: Engines,
    evaluation: Engines,
    *,
    gpus_per_node: int,
    keep_checkpoints: int,
    models: Mapping[str, Engines] = MappingProxyType({}),
) -> Means:
    """The means of `given`; `gpus_per_node` is what that count is where `given` leaves it open; `models` are the helpers'."""
    engines = given.generation or GenerationCompute()
    of_generation, of_evaluation = (
        GenerationMeans(
            device=device,
            replicas=counts.replicas,
            tensor_parallel_size=counts.tensor_parallel_size,
            models={
                name: EngineCounts(replicas=of.replicas, tensor_parallel_size=of.tensor_parallel_size)
                for name, of in models.items()
            },
            gpu_memory_percent=engines.gpu_memory_percent or 90,
            engine_args=engines.engine_args or {},
        )
        for counts in (generation, evaluation)
    )
    training = _training(
        given.training or TrainingCompute(), trains_on_cpu(given, device), gpus_per_node, keep_checkpoints
    )
    return Means(generation=of_generation, training=training, evaluation=of_evaluation)


def trains_on_cpu(given: Compute, device: Device) -> bool:
    """Whether the training has no GPUs."""
    return device == "CPU" or (given.training is not None and given.training.gpus_per_node == 0)


def _training(given: TrainingCompute, on_cpu: bool, gpus_per_node: int, keep_checkpoints: int) -> TrainingMeans:
    return TrainingMeans(
        device="CPU" if on_cpu else "GPU",
        nodes=given.nodes or 1,
        gpus_per_node=gpus_per_node if given.gpus_per_node is None else given.gpus_per_node,
        zero_stage=given.zero_stage,
        offload=given.offload or "None",
        micro_batch_tokens=given.micro_batch_tokens,
        # Recomputing saves a GPU's memory; a CPU has room, and would only be a third slower.
        activation_checkpointing=given.activation_checkpointing or ("None" if on_cpu else "Full"),
        checkpoint_interval_seconds=given.checkpoint_interval_seconds or 900,
        keep_checkpoints=keep_checkpoints,
    )
