"""Gates: what figures of the newest model must reach before anything is published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Evaluate, Gate, Json, Plan, Publish
from selfalign_jobs.places.store import Folder, read_manifest, step_folder

FIELD = "spec.evaluation.gates"


@dataclass(frozen=True)
class Passed:
    """A gate held against one figure of an evaluation."""

    gate: Gate
    figure: str  # as the evaluation names it: win, accuracy.greedy.gain
    value: float
    low: float
    high: float

    @property
    def asked(self) -> float:
        """The number that must be at least what the gate says."""
        return self.low if self.gate.figure == "low" else self.value

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.asked >= self.gate.at_least

    @property
    def words(self) -> str:
        """What is there and what must be, for people."""
        part = "the low end of " if self.gate.figure == "low" else ""
        return (
            f"{part}{self.figure} is {self.asked:.3f} ({self.value:.3f}, 95 %: {self.low:.3f} to {self.high:.3f}) and must "
            f"be at least {self.gate.at_least:g}"
        )


def held_against(gates: Iterable[Gate], figures: Mapping[str, Json]) -> Iterator[Passed]:
    """Each gate with each figure that it is about: of an ExactMatch one a temperature."""
    for gate in gates:
        for name in names_of(gate, figures):
            found = figures[name]
            yield Passed(gate, name, found["value"], found["low"], found["high"])


def names_of(gate: Gate, figures: Mapping[str, Json]) -> list[str]:
    """The figures of an evaluation that a gate is about: a win rate's own, or those after training, or gains."""
    if gate.check in figures:
        return [gate.check]
    part = "after" if gate.figure == "value" else "gain"
    return [name for name in figures if name.startswith(f"{gate.check}.") and name.endswith(f".{part}")]


def refuse_unmet(run: Folder, plan: Plan, step: Publish) -> None:
    """ConfigError with the reason GateNotPassed and the figures in words, unless all gates are passed."""
    if not step.gates:
        return
    evaluations = [each for each in plan.steps if isinstance(each, Evaluate) and each.iteration == step.iteration]
    manifest = read_manifest(step_folder(run, step.iteration, evaluations[-1].name)) if evaluations else None
    if manifest is None:
        raise RuntimeError(f"iteration {step.iteration} has no finished evaluation; it runs before {step.name}")
    unmet = [passed for passed in held_against(step.gates, manifest.result["checks"]) if not passed.met]
    with refused_as("GateNotPassed"):
        if unmet:
            raise ConfigError(
                [
                    Problem(f"{FIELD}[{step.gates.index(passed.gate)}]", None, f"{passed.words}; nothing was published")
                    for passed in unmet
                ]
            )
