"""Where a run runs. It never changes a result beyond the order of floating-point sums."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from selfalign_api.base import INT32_MAX, ApiModel, Count, FreeForm, MapBy, Name, Seconds, Text

QUANTITY = r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$"


def _quantity(value: object) -> object:
    """The text of a quantity: 8 is "8"."""
    text = str(value) if type(value) is int else value
    if isinstance(text, str) and re.fullmatch(QUANTITY, text) is None:
        raise PydanticCustomError("quantity", "is no quantity of Kubernetes; write 500m, 8 or 64Gi")
    return text


Quantity = Annotated[
    str, BeforeValidator(_quantity), WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": QUANTITY})
]
Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]


def _no_truth_value(value: object) -> object:
    """Python's True equals 1; a ZeRO stage is a number."""
    if isinstance(value, bool):
        raise PydanticKnownError("literal_error", {"expected": "0, 1, 2 or 3"})
    return value


ZeroStage = Annotated[Literal[0, 1, 2, 3], BeforeValidator(_no_truth_value)]


class Resources(ApiModel):
    """CPU and memory of a pod, as in Kubernetes."""

    requests: Quantities | None = None
    """What a pod is given for certain, such as {cpu: 8, memory: 64Gi}. GPUs follow from the counts."""

    limits: Quantities | None = None
    """What a pod may not exceed."""


class PodCompute(ApiModel):
    """The pods of one kind of step; on one machine without effect."""

    image: Text | None = None
    """Image of the pods. Unset: the profile's, else the operator's."""

    resources: Resources | None = None
    """CPU and memory of a pod."""

    pod_template: FreeForm | None = None
    """Part of a PodTemplateSpec, merged into every pod after compute.podTemplate."""

    grace_period_seconds: Seconds | None = None
    """Seconds between SIGTERM and SIGKILL. Unset: the profile's, else 30, of a training 120."""


class ModelCompute(ApiModel):
    """The engines of one helper model."""

    model_name: Annotated[Name, Field(examples=["judge-70b"])]
    """Which entry of auxiliaryModels."""

    replicas: Count | None = None
    """Engines. Unset: generation's; on one machine as many as its GPUs allow."""

    tensor_parallel_size: Count | None = None
    """GPUs of an engine. Unset: generation's."""


class GenerationCompute(PodCompute):
    """Engines that write and judge."""

    runtime: Literal["Gang", "RayJob"] | None = None
    """What starts the pods: an Indexed Job or KubeRay; on one machine without effect. Unset: the profile's, else Gang."""

    head_pod_template: FreeForm | None = None
    """Part of a PodTemplateSpec, merged into the pod of a RayJob's head after podTemplate: a node that stays."""

    replicas: Count | None = None
    """Engines. Unset: the profile's, else 1; on one machine as many as its GPUs allow."""

    tensor_parallel_size: Count | None = None
    """GPUs of an engine. Unset: the profile's, else 1."""

    models: Annotated[tuple[ModelCompute, ...], Field(max_length=8), MapBy("modelName")] | None = None
    """Counts of helper models that want others, in evaluation too. A pod has what the largest engine of its step takes."""

    gpu_memory_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of a GPU's memory that the engine takes, in percent. Unset: the profile's, else 90."""

    engine_args: FreeForm | None = None
    """Further arguments of vLLM's engine; those that change results are refused."""


class TrainingCompute(PodCompute):
    """Ranks and DeepSpeed."""

    nodes: Count | None = None
    """Pods; on one machine without GPUs, processes. Unset: the profile's, else 1."""

    gpus_per_node: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    """GPUs of a pod; 0 is CPU. Unset: the profile's, else 1; on one machine what is there."""

    zero_stage: ZeroStage | None = None
    """ZeRO stage: 0 nothing, 1 optimiser state, 2 and gradients, 3 and parameters are split. Unset: 2 where it fits, else 3."""

    offload: Literal["None", "Optimizer", "OptimizerAndParameters"] | None = None
    """What waits in main memory instead of the GPU's. Unset: None."""

    micro_batch_tokens: Count | None = None
    """Tokens of one forward pass. Unset: measured on the GPUs."""

    activation_checkpointing: Literal["None", "Full"] | None = None
    """Whether activations are computed again in the backward pass. Unset: Full."""

    checkpoint_interval_seconds: Count | None = None
    """Seconds between checkpoints, which is what a kill may cost. Unset: 900."""


class EvaluationCompute(PodCompute):
    """Engines and pods of the evaluation. A field left out has generation's value."""

    replicas: Count | None = None
    """Engines."""

    tensor_parallel_size: Count | None = None
    """GPUs of an engine."""


class ControlCompute(ApiModel):
    """The small pods that accept, collect and publish: they read and copy files, without a GPU."""

    image: Text | None = None
    """Image of the pods. Unset: generation's, else the operator's."""

    resources: Resources | None = None
    """CPU and memory of a pod. Unset: the profile's, else 500m and 768Mi, at most one CPU."""

    pod_template: FreeForm | None = None
    """Part of a PodTemplateSpec. Of the other pods' templates they take all but what chooses GPU nodes, and devices."""


class Compute(ApiModel):
    """Where the run runs; a field left out has the profile's value. May change while the run is suspended."""

    profile_name: Name | None = None
    """The profile that fills what is left out. Unset: the one named default."""

    device: Literal["GPU", "CPU"] | None = None
    """What computes. Unset: the profile's, else GPU; on one machine what is there."""

    queue_name: Name | None = None
    """Kueue's LocalQueue of every workload; on one machine without effect."""

    pod_template: FreeForm | None = None
    """Part of a PodTemplateSpec, merged into every pod (container `step`); on one machine without effect."""

    generation: GenerationCompute | None = None
    """Engines that write and judge."""

    training: TrainingCompute | None = None
    """Ranks and DeepSpeed."""

    evaluation: EvaluationCompute | None = None
    """Engines and pods of the evaluation; a field left out has generation's value."""

    control: ControlCompute | None = None
    """The small pods; on one machine without effect."""
