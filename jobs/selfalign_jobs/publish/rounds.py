"""The rounds of a loop that may be published, as far as they are evaluated, and which of them is: the last, or the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import mean
from typing import Literal

from selfalign_api.plan import AnyStep, Check, Evaluate, Plan, Publish, Round
from selfalign_api.plan_values import Json
from selfalign_api.rounds import best_round, ends_after
from selfalign_jobs.places.store import Folder, read_manifest, step_folder
from selfalign_jobs.recipes.answers import role_at

Figures = Mapping[str, Json]  # of an evaluation: name -> value, low, high, n
Part = Literal["after", "gain"]


@dataclass(frozen=True)
class Rounds:
    """What a publish step chooses from."""

    step: Publish
    checks: Mapping[str, Check]  # of the plan's evaluations, by name
    evaluated: Mapping[int, Figures]  # by iteration, of the evaluations that are done

    @property
    def ended_after(self) -> int | None:
        """The iteration after which the loop has ended early; None where it has not."""
        if self.step.stop_after_worse is None:
            return None
        made = list(takewhile(lambda each: each.iteration in self.evaluated, (*self.step.earlier, self.step)))
        number = ends_after([self._value(each) for each in made], self.step.stop_after_worse)
        return None if number is None else made[number - 1].iteration

    @property
    def candidates(self) -> Sequence[Round]:
        """The rounds that it may publish, in their order: those of the loop until its end."""
        every, end = (*self.step.earlier, self.step), self.ended_after
        return every if end is None else [each for each in every if each.iteration <= end]

    def leave_out(self, step: AnyStep) -> bool:
        """Whether the loop has ended before this step of the plan, so that it is not done."""
        end = self.ended_after
        return end is not None and step.iteration > end and not isinstance(step, Publish)

    @property
    def missing(self) -> int | None:
        """The first iteration whose evaluation it goes by and that is not done; None where it can choose."""
        if self.step.select_by is None and not self.step.gates:
            return None
        return next((each.iteration for each in self.candidates if each.iteration not in self.evaluated), None)

    @property
    def values(self) -> dict[int, float]:
        """What the check that selects says of each round; empty where none does."""
        if self.step.select_by is None:
            return {}
        return {each.iteration: self._value(each) for each in self.candidates if each.iteration in self.evaluated}

    def _value(self, each: Round) -> float:
        assert self.step.select_by is not None
        return value_of(self.checks[self.step.select_by], self.evaluated[each.iteration])

    @property
    def chosen(self) -> Round:
        """The best round by the step's check, of equal ones the earlier; without a check the last. None may be missing."""
        if self.step.select_by is None:
            return self.step
        return self.candidates[best_round(list(self.values.values())) - 1]


def rounds_of(run: Folder, plan: Plan) -> Rounds | None:
    """The rounds of a run, by the manifests of its evaluations; None where nothing is published."""
    step = next((step for step in plan.steps if isinstance(step, Publish)), None)
    if step is None:
        return None
    evaluations = [step for step in plan.steps if isinstance(step, Evaluate)]
    found = {each.iteration: read_manifest(step_folder(run, each.iteration, each.name)) for each in evaluations}
    figures = {k: manifest.result["checks"] for k, manifest in found.items() if manifest is not None}
    return Rounds(step, {check.name: check for each in evaluations for check in each.checks}, figures)


def value_of(check: Check, figures: Figures) -> float:
    """A check's value of the new model: the mean over its temperatures, or over the metrics of its tasks."""
    return mean(float(figures[name]["value"]) for name in names_of(check, "after", figures))


def names_of(check: Check, part: Part, figures: Figures) -> list[str]:
    """The figures of a check as the evaluation names them: a win rate's own, one a temperature of an ExactMatch, or all of a
    Benchmark of which more is better.
    """
    if check.type == "SelfWinRate":
        return [check.name]
    if check.type == "Benchmark":
        own = [name for name in figures if name.startswith(f"{check.name}.") and name.endswith(f".{part}")]
        return [name for name in own if not figures[name].get("lowerIsBetter")]
    return [f"{check.name}.{role_at(temperature)}.{part}" for temperature in check.temperatures]
