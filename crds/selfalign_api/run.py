"""The SelfAlignmentRun: one object that describes a run once, for a cluster and for one machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import INT64_MAX, ApiModel, LongCount, MapBy, Seconds
from selfalign_api.evaluation import (
    AlmostOptions,
    Evaluation,
    FspoOptions,
    PitOptions,
    SaoOptions,
    SelmOptions,
    SynpoOptions,
)
from selfalign_api.generation import Generation, Judge
from selfalign_api.life import Credential, FailurePolicy, Tracking
from selfalign_api.means import Compute
from selfalign_api.method import AuxiliaryModel, Data, Model, Output, Storage
from selfalign_api.reversegen import ReversegenOptions
from selfalign_api.training import Iteration, Training

GROUP = "selfalign.dev"
VERSION = "v1alpha1"

# The three parts of the spec (api.md). Method: immutable; a field left out has the recipe's value.
METHOD_FIELDS = (
    "recipe",
    "iterations",
    "seed",
    "model",
    "auxiliaryModels",
    "data",
    "generation",
    "judge",
    "iteration",
    "training",
    "evaluation",
    "sao",
    "selm",
    "synpo",
    "fspo",
    "almost",
    "reversegen",
    "pit",
    "output",
    "storage",
)
MEANS_FIELDS = ("compute",)
LIFE_FIELDS = (
    "suspend",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "failurePolicy",
    "workloadRetention",
    "credentials",
    "holdBefore",
    "tracking",
)

Recipe = Literal[
    "sao", "pairs", "spin", "selm", "synpo", "fspo", "almost", "reversegen", "pit"
]  # those that are built: selfalign_jobs/recipes/NAME.py each


class Spec(ApiModel):
    """What a run computes (recipe to storage), where it runs (compute), and how it lives (suspend to credentials)."""

    recipe: Annotated[Recipe, Field(examples=["sao"])]
    """The algorithm; also the key of its own options."""

    iterations: Annotated[int, Field(ge=1, le=32)] | None = None
    """Rounds of generate, train, evaluate, counted from 1."""

    seed: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    """Root of every random choice. Unset: 0."""

    model: Annotated[Model, Field(examples=[{"url": "hf://google/gemma-2-9b-it"}])]
    """The model that aligns itself."""

    auxiliary_models: Annotated[tuple[AuxiliaryModel, ...], Field(max_length=8), MapBy("name")] | None = None
    """Further models, by name: a judge that is not the model itself."""

    data: Data | None = None
    """What the recipe reads."""

    generation: Generation | None = None
    """How text is written."""

    judge: Judge | None = None
    """How two answers are compared."""

    iteration: Iteration | None = None
    """What a round starts from and trains on."""

    training: Training | None = None
    """Preference training."""

    evaluation: Evaluation | None = None
    """How the new model is compared with the one before."""

    sao: SaoOptions | None = None
    """Options of the recipe sao."""

    selm: SelmOptions | None = None
    """Options of the recipe selm."""

    synpo: SynpoOptions | None = None
    """Options of the recipe synpo."""

    fspo: FspoOptions | None = None
    """Options of the recipe fspo."""

    almost: AlmostOptions | None = None
    """Options of the recipe almost."""

    reversegen: ReversegenOptions | None = None
    """Options of the recipe reversegen."""

    pit: PitOptions | None = None
    """Options of the recipe pit."""

    output: Output | None = None
    """Where the result is copied. Unset: it stays in the run's folder only."""

    storage: Storage | None = None
    """Where the run keeps its artefacts."""

    compute: Compute | None = None
    """Where the run runs."""

    suspend: bool = False
    """Stop at the next durable record; nothing is lost."""

    active_deadline_seconds: LongCount | None = None
    """Seconds of unsuspended time, after which the run fails. Unset: none."""

    ttl_seconds_after_finished: Seconds | None = None
    """Seconds after the end until the run and its workloads are deleted, never its storage. Unset: never."""

    failure_policy: FailurePolicy = FailurePolicy()
    """What happens when a step fails."""

    workload_retention: Literal["WithRun", "AfterStep"] = "WithRun"
    """How long the Job and the pods of a finished step stay for their logs: as long as the run, or no longer."""

    hold_before: Literal["train", "publish"] | None = None
    """Each such step waits for a person, who looks at the report and lets it begin. Unset: none does."""

    tracking: Tracking | None = None
    """Where the run is shown beside others. Unset: the profile's; without one nowhere, but for TensorBoard's files."""

    credentials: Annotated[tuple[Credential, ...], Field(max_length=16), MapBy("urlPrefix")] | None = None
    """Which Secret opens which places. Unset: the profile's; on one machine its own credentials are used."""


class Metadata(ApiModel):
    """The object's name and labels, as in Kubernetes."""

    name: Annotated[str, Field(min_length=1, max_length=253, examples=["my-run"])]
    """Name of the run: at most 40 of a-z, 0-9 and -, starting with a letter."""

    namespace: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = "default"
    """Namespace of the run, a folder of its storage."""

    labels: dict[str, str] = {}
    """Labels, as in Kubernetes."""

    annotations: dict[str, str] = {}
    """Annotations, as in Kubernetes."""


class SelfAlignmentRun(ApiModel):
    """A language model aligns itself."""

    api_version: Annotated[Literal["selfalign.dev/v1alpha1"], Field(examples=["selfalign.dev/v1alpha1"])]
    """Always selfalign.dev/v1alpha1."""

    kind: Annotated[Literal["SelfAlignmentRun"], Field(examples=["SelfAlignmentRun"])]
    """Always SelfAlignmentRun."""

    metadata: Annotated[Metadata, Field(examples=[{"name": "my-run"}])]
    """Name and labels."""

    spec: Annotated[Spec, Field(examples=[{"recipe": "sao", "model": {"url": "hf://google/gemma-2-9b-it"}}])]
    """What runs, where, and how it lives."""
