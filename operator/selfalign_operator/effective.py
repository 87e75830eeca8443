"""A run as it counts: the spec with its profile's values, its means, and where its places lie inside a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.plan import Means, RunFile
from selfalign_api.run import Spec
from selfalign_api.status import StepKind
from selfalign_operator.reasons import EventReason


class RunError(ConfigError):
    """A run that cannot be run here; `reason` is that of the condition Accepted."""

    def __init__(self, reason: EventReason, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.reason = reason


@dataclass(frozen=True)
class Frozen:
    """What was resolved when the run began, or when its compute was last changed: the content of its ConfigMap.

    A changed profile or a new operator alters no run under way.
    """

    config_map_name: str
    compute_digest: str  # of spec.compute as the run gave it
    run_file: RunFile


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
    mounts: Mapping[str, str]  # claim -> folder in the pod, for every claim that the run names
    config: OperatorConfig


@dataclass(frozen=True)
class Attempt:
    """One try at one step: one workload, with a name of its own."""

    step: str
    kind: StepKind
    iteration: int
    number: int  # from 1
    collect: bool = False  # only read the manifest of this attempt's step and give its summary
