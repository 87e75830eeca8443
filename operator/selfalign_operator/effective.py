"""A run as it counts: the spec with its profile's values, its means, and where its places lie inside a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfalign_api.operator_config import OperatorConfig
from selfalign_api.plan import Means
from selfalign_api.run import Spec
from selfalign_api.status import StepKind


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
