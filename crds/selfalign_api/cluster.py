"""A run on a cluster: its profile, its spec as it counts, and the means where run and profile leave them open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from selfalign_api.engine_args import engine_arg_problems
from selfalign_api.errors import ConfigError
from selfalign_api.load import parse_spec
from selfalign_api.means import (
    Compute,
    ControlCompute,
    EvaluationCompute,
    GenerationCompute,
    PodCompute,
    Resources,
    TrainingCompute,
)
from selfalign_api.operator_config import ClusterProfile, OperatorConfig
from selfalign_api.plan_values import Json
from selfalign_api.platform import STEP_CONTAINER, platform_problems
from selfalign_api.profiles import DEFAULT_PROFILE, with_profile
from selfalign_api.resolved import Engines, resolved_means, trains_on_cpu
from selfalign_api.rules import broken_rules
from selfalign_api.run import Spec
from selfalign_api.run_file import Means

__all__ = ["Pods", "ProfileNotFound", "control_pods", "effective_spec", "pods_of", "profile_of", "resolve_on_cluster"]

GRACE_PERIOD_SECONDS = 30
TRAINING_GRACE_PERIOD_SECONDS = 120  # a rank may be writing a checkpoint
# What of a podTemplate chooses the nodes of GPUs, and the devices there.
OF_GPU_NODES = (
    *("affinity", "nodeName", "nodeSelector", "resourceClaims", "runtimeClassName", "schedulerName", "tolerations"),
    "topologySpreadConstraints",
)


class ProfileNotFound(ConfigError):
    """The run names a profile that the operator does not have."""


def profile_of(spec: Spec, config: OperatorConfig) -> ClusterProfile:
    """The profile that a run names; else the one named default, else an empty one. Raises ProfileNotFound."""
    name = spec.compute.profile_name if spec.compute is not None else None
    wanted = DEFAULT_PROFILE if name is None else name
    if wanted in config.profiles:
        return config.profiles[wanted]
    if name is None:
        return ClusterProfile()
    there = f"there are {', '.join(sorted(config.profiles))}" if config.profiles else "the operator has none"
    raise ProfileNotFound.one(
        "spec.compute.profileName", f"names no profile ({there}); write one that is there, or remove this", name
    )


def effective_spec(raw: Any, config: OperatorConfig) -> Spec:
    """The spec of an object as it counts: checked, with its profile's values. `raw` is any JSON, past the schema too.

    Raises ConfigError with all that is wrong: types, the rules over several fields, what the platform does not allow;
    ProfileNotFound when only the profile is missing.
    """
    try:
        spec = parse_spec(raw)
        profile = profile_of(spec, config)
        effective = with_profile(spec, profile)
    except RecursionError:
        raise ConfigError.one("spec", "the nesting is too deep; write it flatter") from None
    problems = [
        *broken_rules(effective, "spec"),
        *engine_arg_problems(effective.compute),
        *platform_problems(effective, profile, resolve_on_cluster(effective.compute)),
    ]
    if problems:
        raise ConfigError(problems)
    return effective


def resolve_on_cluster(compute: Compute | None, *, keep_checkpoints: int = 1) -> Means:
    """The means on a cluster, where an open count is 1. `compute` has its profile's values."""
    given = compute or Compute()
    device = given.device or "GPU"
    generation, evaluation = given.generation or GenerationCompute(), given.evaluation or EvaluationCompute()
    engines = Engines(generation.replicas or 1, generation.tensor_parallel_size or 1)
    return resolved_means(
        given,
        device,
        engines,
        Engines(
            evaluation.replicas or engines.replicas, evaluation.tensor_parallel_size or engines.tensor_parallel_size
        ),
        models={
            model.model_name: Engines(
                model.replicas or engines.replicas, model.tensor_parallel_size or engines.tensor_parallel_size
            )
            for model in generation.models or ()
        },
        gpus_per_node=0 if trains_on_cpu(given, device) else 1,
        keep_checkpoints=keep_checkpoints,
    )


@dataclass(frozen=True)
class Pods:
    """What a run says of the pods of one kind of step."""

    image: str | None  # None: the operator's
    resources: Resources
    pod_templates: tuple[dict[str, Json], ...]  # parts of a PodTemplateSpec; a later one wins
    grace_period_seconds: int


def pods_of(compute: Compute | None, kind: Literal["generate", "train", "evaluate"]) -> Pods:
    """The pods of that kind of step; what evaluation leaves open is generation's."""
    given = compute or Compute()
    generation = given.generation or GenerationCompute()
    own: dict[str, tuple[PodCompute, PodCompute]] = {
        "generate": (generation, generation),
        "train": (given.training or TrainingCompute(),) * 2,
        "evaluate": (given.evaluation or EvaluationCompute(), generation),
    }
    first, second = own[kind]
    template = second.pod_template if first.pod_template is None else first.pod_template
    seconds = second.grace_period_seconds if first.grace_period_seconds is None else first.grace_period_seconds
    usual = TRAINING_GRACE_PERIOD_SECONDS if kind == "train" else GRACE_PERIOD_SECONDS
    return Pods(
        image=first.image or second.image,
        resources=first.resources or second.resources or Resources(),
        pod_templates=tuple(part for part in (given.pod_template, template) if part is not None),
        grace_period_seconds=usual if seconds is None else seconds,
    )


def control_pods(compute: Compute | None, *, on_gpus: bool) -> Pods:
    """The small pods: as those that generate, for their image and volumes, but on any node where those have GPUs."""
    given = pods_of(compute, "generate")
    own = (compute.control if compute is not None else None) or ControlCompute()
    return Pods(
        image=own.image or given.image,
        resources=own.resources or Resources(),
        pod_templates=(
            *(_without_devices(part, OF_GPU_NODES if on_gpus else ("resourceClaims",)) for part in given.pod_templates),
            *([] if own.pod_template is None else [own.pod_template]),
        ),
        grace_period_seconds=given.grace_period_seconds,
    )


def _without_devices(part: dict[str, Json], fields: tuple[str, ...]) -> dict[str, Json]:
    """The part of a PodTemplateSpec without these fields of its spec, and without the resources of the container `step`."""
    spec = {field: value for field, value in part.get("spec", {}).items() if field not in fields}
    if "containers" in spec:
        spec["containers"] = [
            {field: value for field, value in each.items() if each["name"] != STEP_CONTAINER or field != "resources"}
            for each in spec["containers"]
        ]
    return part | ({"spec": spec} if "spec" in part else {})
