"""What a training would refuse, asked for when the run is accepted."""

from __future__ import annotations

from collections.abc import Iterator

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.plan import Plan, Train
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora
from selfalign_jobs.accept.weights import HEADS, Tensors, linear_modules
from selfalign_jobs.train.settings import check, told_of


def training_problems(plan: Plan, means: TrainingMeans) -> list[Problem]:
    """What `train.settings.check` says of each training of the plan, once."""
    found: dict[str, Problem] = {}
    for step in plan.steps:
        if isinstance(step, Train):
            try:
                with told_of(step):
                    check(step, means)
            except ConfigError as error:
                found |= {str(problem): problem for problem in error.problems}
    return list(found.values())


def lora_problems(plan: Plan, tensors: Tensors) -> Iterator[Problem]:
    """Layers that an adapter should sit on and that the model lacks."""
    there = linear_modules(tensors)
    known = there | set(HEADS)  # of which `check` speaks
    adapters: set[Lora] = {step.settings.lora for step in plan.steps if isinstance(step, Train) and step.settings.lora}
    for lora in adapters:
        unknown = [name for name in lora.target_modules if name not in known]
        if unknown:
            yield Problem(
                "spec.training.lora.targetModules",
                list(lora.target_modules),
                f"names {', '.join(unknown)}, which this model lacks; write some of {', '.join(sorted(there))}",
            )
