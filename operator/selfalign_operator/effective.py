"""A run as it counts: the spec with its profile's values, its means, and where its places lie inside a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from selfalign_api.base import ApiModel, Text
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.life import Credential, Tracking
from selfalign_api.operator_config import GangScheduling, Images, OperatorConfig
from selfalign_api.plan_values import ADDED, Json
from selfalign_api.run import Spec
from selfalign_api.run_file import Means, RunFile
from selfalign_api.status import StepKind
from selfalign_operator.reasons import EventReason


class RunError(ConfigError):
    """A run that cannot be run here; `reason` is that of the condition Accepted."""

    reason: EventReason

    def __init__(self, reason: EventReason, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.reason = reason


class Platform(ApiModel):
    """What the operator's configuration was for a run when it was resolved; the rest of that is in its run file."""

    compute_digest: Text
    """Digest of spec.compute as the run gave it."""

    images: Images
    """Images of the step programs: the ones that made a run's plan also carry it out."""

    gpu_resource_name: Text
    """Extended resource that a GPU is asked by."""

    gpu_claim_template_name: Text | None = None
    """ResourceClaimTemplate of one GPU, in the place of that resource."""

    capabilities: tuple[Text, ...] = ()
    """Linux capabilities of engines and ranks."""

    host_network: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Whether ranks on several nodes are in the network of these."""

    disruption_budget: bool = False
    """Whether the run's pods are kept from being evicted."""

    gang_scheduling: GangScheduling | None = None
    """The scheduler of engines and ranks, and its PodGroups."""

    credentials: tuple[Credential, ...] = ()
    """The profile's, for a run that names none."""

    tracking: Annotated[Tracking | None, ADDED] = None
    """The profile's, for a run that names none."""

    propagate_labels: tuple[Text, ...] = ()
    """Names of the run's labels that all that is made for it has too."""

    format: int = 1
    """Of both files; a version that cannot be read by those before it has a higher one."""


@dataclass(frozen=True)
class Frozen:
    """What was resolved when the run began, or when its compute was last changed: the content of its ConfigMap.

    A changed profile or a new operator alters no run under way.
    """

    config_map_name: str
    data: Mapping[str, str]  # as it was written, also by another version: made again, it is the same
    run_file: RunFile
    platform: Platform
    spec: Mapping[str, Json]  # of the run as resolved, without what this version does not know


@dataclass(frozen=True)
class EffectiveRun:
    """All that manifests are rendered from. A child never takes anything of the run from elsewhere."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Spec  # with the profile's values
    means: Means
    storage: str  # URL of the run's folder as a pod reaches it: file:///mnt/CLAIM/…, s3://…, gs://…
    reuse_from: tuple[str, ...]  # URLs of other runs' folders, likewise
    mounts: Mapping[str, str]  # claim -> folder in the pod, for every claim that the run names
    platform: Platform
    config: OperatorConfig
    frozen: Frozen | None = None  # None: what is here was resolved just now


@dataclass(frozen=True)
class Attempt:
    """One try at one step: one workload, with a name of its own."""

    step: str
    kind: StepKind
    iteration: int
    number: int  # from 1
    collect: bool = False  # only read the manifest of this attempt's step and give its summary
