"""Gates: what figures of a model must reach before anything is published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Gate
from selfalign_jobs.publish.rounds import Figures, names_of

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


def held_against(gates: Iterable[Gate], figures: Figures) -> Iterator[Passed]:
    """Each gate with each figure that it is about: of an ExactMatch one a temperature."""
    for gate in gates:
        for name in names_of(gate.check, "after" if gate.figure == "value" else "gain", figures):
            found = figures[name]
            yield Passed(gate, name, found["value"], found["low"], found["high"])


def refuse_unmet(gates: Sequence[Gate], figures: Figures) -> None:
    """ConfigError with the reason GateNotPassed and the figures in words, unless all gates are passed."""
    unmet = [
        Problem(f"{FIELD}[{gates.index(passed.gate)}]", None, f"{passed.words}; nothing was published")
        for passed in held_against(gates, figures)
        if not passed.met
    ]
    if unmet:
        with refused_as("GateNotPassed"):
            raise ConfigError(unmet)
