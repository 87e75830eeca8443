"""What step programs are given beside the plan: the run, its places, and the means: where it runs, never part of a digest."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from selfalign_api.plan import Frozen, Json, Plan


class GenerationMeans(Frozen):
    """Engines of a generate or evaluate step."""

    device: Literal["CPU", "GPU"]
    replicas: int = 1
    tensor_parallel_size: int = 1
    gpu_memory_percent: int = 90
    engine_args: dict[str, Json] = {}


class TrainingMeans(Frozen):
    """Ranks and DeepSpeed of a train step; on CPU a node runs one rank."""

    device: Literal["CPU", "GPU"]
    nodes: int = 1
    gpus_per_node: int = 0
    zero_stage: Literal[0, 1, 2, 3] | None = None  # None: of several ranks 2 where its states fit, else 3
    offload: Literal["None", "Optimizer", "OptimizerAndParameters"] = "None"
    micro_batch_tokens: int | None = None  # None: measured on the GPUs, estimated on a CPU
    activation_checkpointing: Literal["None", "Full"] = "Full"
    checkpoint_interval_seconds: int = 900
    keep_checkpoints: int = 1


class Means(Frozen):
    """The resolved compute of a run."""

    generation: GenerationMeans
    training: TrainingMeans
    evaluation: GenerationMeans


class RunFile(Frozen):
    """What every step program of a run is given beside its step's name, one JSON file: the run, and where it runs.

    The plan itself lies in the run's folder (`plan.json`), written when the run was accepted, by the same programs that
    read it.
    """

    run: dict[str, Json]  # the SelfAlignmentRun, with the values of its profile
    storage: str  # URL of the run's folder
    mounts: dict[str, str] = {}  # claim -> folder, for pvc:// URLs
    means: Means
    reuse_from: tuple[str, ...] = ()  # URLs of the run folders that finished steps may be taken from


class StepConfig(Frozen):
    """All that a step works by: the plan, which step of it, and where it runs."""

    plan: Plan
    step: str
    attempt: int = Field(ge=1)
    storage: str  # URL of the run's folder
    mounts: dict[str, str] = {}  # claim -> folder, for pvc:// URLs
    means: Means
    reuse_from: tuple[str, ...] = ()  # URLs of the run folders that the step may be taken from

    @classmethod
    def of(cls, file: RunFile, plan: Plan, step: str, attempt: int) -> Self:
        """The config of one attempt at a step of a run."""
        return cls(
            plan=plan,
            step=step,
            attempt=attempt,
            storage=file.storage,
            mounts=file.mounts,
            means=file.means,
            reuse_from=file.reuse_from,
        )
