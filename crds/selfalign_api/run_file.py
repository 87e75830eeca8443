"""What step programs are given beside the plan: the run, its places, and the means: where it runs, never part of a digest."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from selfalign_api.plan import Plan
from selfalign_api.plan_values import ADDED, Frozen, Json


class EngineCounts(Frozen):
    """How many engines, of how many GPUs each."""

    replicas: int
    tensor_parallel_size: int


class GenerationMeans(Frozen):
    """Engines of a generate or evaluate step."""

    device: Literal["CPU", "GPU"]
    replicas: int = 1
    tensor_parallel_size: int = 1
    models: Annotated[dict[str, EngineCounts], ADDED] = {}  # of helpers that have other counts, by name
    gpu_memory_percent: int = 90
    engine_args: dict[str, Json] = {}

    def of(self, lineage: str) -> GenerationMeans:
        """The engines of one model."""
        counts = self.models.get(lineage)
        return self.model_copy(update={"models": {}} | (dict(counts) if counts else {}))

    @property
    def counts(self) -> tuple[EngineCounts, ...]:
        """Those of all models, whose loads take turns."""
        own = EngineCounts(replicas=self.replicas, tensor_parallel_size=self.tensor_parallel_size)
        return (own, *self.models.values())

    @property
    def gpus_of_pod(self) -> int:
        """GPUs of a pod: those of the largest engine of any model. 0 on CPU."""
        return max(each.tensor_parallel_size for each in self.counts) if self.device == "GPU" else 0

    @property
    def pods(self) -> int:
        """Pods that hold all engines of any one model; smaller engines share a pod of a larger one's size."""
        return max(-(-each.replicas // self._in_pod(each)) for each in self.counts)

    @property
    def most_gpus(self) -> int:
        """GPUs of all engines of any one model."""
        return max(each.replicas * each.tensor_parallel_size for each in self.counts) if self.device == "GPU" else 0

    @property
    def most_engines(self) -> int:
        """Engines of any one model."""
        return max(each.replicas for each in self.counts)

    @property
    def most_in_pod(self) -> int:
        """Engines of any one model in a pod."""
        return max(map(self._in_pod, self.counts))

    def in_pod(self, lineage: str) -> int:
        """Engines of a model in a pod."""
        of = self.of(lineage)
        return self._in_pod(EngineCounts(replicas=of.replicas, tensor_parallel_size=of.tensor_parallel_size))

    def _in_pod(self, counts: EngineCounts) -> int:
        return max(1, self.gpus_of_pod // counts.tensor_parallel_size)


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
