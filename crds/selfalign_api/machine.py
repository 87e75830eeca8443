"""The means of one machine: its counts where a run leaves them open, and what of a run only a cluster reads."""

from __future__ import annotations

from typing import Any

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.load import as_json
from selfalign_api.means import Compute, EvaluationCompute, GenerationCompute, TrainingCompute
from selfalign_api.resolved import Device, Engines, resolved_means, trains_on_cpu
from selfalign_api.run import Spec
from selfalign_api.run_file import Means

__all__ = ["Device", "ignored_on_one_machine", "resolve_compute"]

# What only a cluster reads, by path under spec: `selfalign run` names those that a run file gives, in one line.
CLUSTER_ONLY = (
    "compute.queueName",
    "compute.podTemplate",
    "compute.generation.runtime",
    "compute.generation.headPodTemplate",
    "compute.control",
    *(
        f"compute.{section}.{field}"
        for section in ("generation", "training", "evaluation")
        for field in ("image", "resources", "podTemplate", "gracePeriodSeconds")
    ),
    "credentials",
    "suspend",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "failurePolicy.afterRetries",
    "failurePolicy.startupDeadlineSeconds",
    "failurePolicy.progressDeadlineSeconds",
    "workloadRetention",
)


def ignored_on_one_machine(spec: Spec) -> tuple[str, ...]:
    """The paths that the spec gives and one machine does not read, such as `spec.compute.queueName`."""
    given = as_json(spec)
    return tuple(f"spec.{path}" for path in CLUSTER_ONLY if _is_given(given, path))


def _is_given(value: Any, path: str) -> bool:
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return True


def resolve_compute(compute: Compute | None, *, gpus: int, fit: bool = False, keep_checkpoints: int = 1) -> Means:
    """The means on a machine with `gpus` GPUs; a count left open is what is there. `compute` has its profile's values.

    Raises ConfigError naming each count that the machine lacks, and `--fit`; with `fit` they are lowered instead.
    """
    given = compute or Compute()
    if fit:
        given = _fitted(given, gpus)
    device: Device = given.device or ("GPU" if gpus > 0 else "CPU")
    if problems := _lacking(given, device, gpus):
        raise ConfigError(problems)
    generation, evaluation = (
        Engines(replicas or (max(1, gpus // size) if device == "GPU" else 1), size)
        for replicas, size in _engines(given)
    )
    models = {
        name: Engines(replicas or (max(1, gpus // size) if device == "GPU" else 1), size)
        for name, replicas, size in _models(given)
    }
    nodes = (given.training or TrainingCompute()).nodes or 1
    there = 0 if trains_on_cpu(given, device) else gpus // nodes
    return resolved_means(
        given,
        device,
        generation,
        evaluation,
        gpus_per_node=there,
        keep_checkpoints=keep_checkpoints,
        models=models,
    )


def _engines(given: Compute) -> tuple[tuple[int | None, int], tuple[int | None, int]]:
    """Replicas (None: left open) and GPUs of an engine, for generation and for evaluation, which takes generation's."""
    generation, evaluation = given.generation or GenerationCompute(), given.evaluation or EvaluationCompute()
    size = generation.tensor_parallel_size or 1
    own_size = evaluation.tensor_parallel_size
    replicas = evaluation.replicas or (generation.replicas if own_size is None else None)
    return (generation.replicas, size), (replicas, own_size or size)


def _models(given: Compute) -> list[tuple[str, int | None, int]]:
    """Helpers with counts of their own: name, replicas (None: left open) and GPUs of an engine."""
    generation = given.generation or GenerationCompute()
    return [
        (
            model.model_name,
            model.replicas or (generation.replicas if model.tensor_parallel_size is None else None),
            model.tensor_parallel_size or generation.tensor_parallel_size or 1,
        )
        for model in generation.models or ()
    ]


def _lacking(given: Compute, device: Device, gpus: int) -> list[Problem]:
    """The counts that the machine lacks. With device: CPU a count is of processes: there may be several."""
    there = f"this machine has {gpus} GPU{'' if gpus == 1 else 's'}; lower it, or add --fit to take what is here"
    problems = []
    if device == "GPU" and gpus == 0:
        problems.append(Problem("spec.compute.device", "GPU", f"is not here: {there}"))
    training = given.training or TrainingCompute()
    if (training.gpus_per_node or 0) * (training.nodes or 1) > gpus:
        path = "spec.compute.training.gpusPerNode"
        problems.append(Problem(path, training.gpus_per_node, f"is more than is here: {there}"))
    elif given.device != "CPU" and training.gpus_per_node is None and (training.nodes or 1) > max(1, gpus):
        problems.append(Problem("spec.compute.training.nodes", training.nodes, f"is more than is here: {there}"))
    sections = (("generation", given.generation), ("evaluation", given.evaluation))
    for (name, section), (replicas, size) in zip(sections, _engines(given), strict=True):
        path = f"spec.compute.{name}"
        if section is None:
            continue
        if size > max(1, gpus) and section.tensor_parallel_size is not None:
            problems.append(Problem(f"{path}.tensorParallelSize", size, f"is more than is here: {there}"))
        elif given.device != "CPU" and (replicas or 1) * size > max(1, gpus) and section.replicas is not None:
            problems.append(Problem(f"{path}.replicas", replicas, f"is more than is here: {there}"))
    for model, replicas, size in _models(given):
        if size > max(1, gpus):
            path = f"spec.compute.generation.models[{model}].tensorParallelSize"
            problems.append(Problem(path, size, f"is more than is here: {there}"))
        elif given.device != "CPU" and (replicas or 1) * size > max(1, gpus):
            path = f"spec.compute.generation.models[{model}].replicas"
            problems.append(Problem(path, replicas, f"is more than is here: {there}"))
    return problems


def _fitted(given: Compute, gpus: int) -> Compute:
    """`given` without the counts that the machine lacks; they become what is there."""
    lacking = {problem.path for problem in _lacking(given, given.device or ("GPU" if gpus > 0 else "CPU"), gpus)}
    while lacking:
        for path in lacking:
            given = _without(given, path.removeprefix("spec.compute.").split("."))
        lacking = {problem.path for problem in _lacking(given, given.device or ("GPU" if gpus > 0 else "CPU"), gpus)}
    return given


def _without(model: Any, path: list[str]) -> Any:
    names = {field.alias: name for name, field in type(model).model_fields.items()}
    if path[0].startswith("models["):  # an entry of the list, which its name tells
        kept = tuple(entry for entry in model.models if f"models[{entry.model_name}]" != path[0])
        return model.model_copy(update={"models": kept})
    name, rest = names[path[0]], path[1:]
    return model.model_copy(update={name: _without(getattr(model, name), rest) if rest else None})
