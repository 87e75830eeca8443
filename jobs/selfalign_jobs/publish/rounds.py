"""Which round is published: the last one, or the best of all by a check."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from selfalign_api.plan import Evaluate, Json, Plan, Publish, Round
from selfalign_jobs.places.store import Folder, read_manifest, step_folder

Figures = Mapping[str, Json]  # of an evaluation: name -> value, low, high, n


def published_round(step: Publish, evaluated: Mapping[int, Figures]) -> Round:
    """The best round by the step's check, of equal ones the earlier; without a check the last."""
    if step.select_by is None:
        return step
    check = step.select_by
    return max((*step.earlier, step), key=lambda each: value_of(check, evaluated[each.iteration]))


def value_of(check: str, figures: Figures) -> float:
    """A check's value of the new model, over its temperatures."""
    return mean(float(figures[name]["value"]) for name in names_of(check, "after", figures))


def names_of(check: str, part: str, figures: Figures) -> list[str]:
    """The figures of a check: a win rate's own, or one a temperature of an ExactMatch (`part`: before, after, gain)."""
    if check in figures:
        return [check]
    return [name for name in figures if name.startswith(f"{check}.") and name.endswith(f".{part}")]


def evaluated_rounds(run: Folder, plan: Plan, step: Publish) -> dict[int, Figures]:
    """The figures of the evaluations that a publish step goes by, by iteration; none where it goes by none."""
    if step.select_by is None and not step.gates:
        return {}
    asked = {each.iteration for each in (*step.earlier, step)}
    steps = {each.iteration: each for each in plan.steps if isinstance(each, Evaluate) and each.iteration in asked}
    found = {k: read_manifest(step_folder(run, k, each.name)) for k, each in steps.items()}
    if missing := sorted(k for k in asked if found.get(k) is None):
        raise RuntimeError(f"iteration {missing[0]} has no finished evaluation; it runs before {step.name}")
    return {k: manifest.result["checks"] for k, manifest in found.items() if manifest is not None}
