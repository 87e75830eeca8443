"""Gates: what figures of a model must reach before anything is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Check, Gate
from selfalign_jobs.publish.rounds import Figures, Rounds, names_of

FIELD = "spec.evaluation.gates"


@dataclass(frozen=True)
class Held:
    """A gate held against one figure of an evaluation."""

    gate: Gate
    figure: str  # as the evaluation names it: win, accuracy.greedy.gain
    where: str  # the check, and of several temperatures which, for people
    of_gain: bool  # whether the figure is a gain over the model as given
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
        """`accuracy at T = 0: gain +0.012 (95 %: -0.020 to +0.044), asked: at least +0.05`."""
        sign = "+" if self.of_gain else ""
        value = f"{'gain' if self.of_gain else 'value'} {self.value:{sign}.3f}"
        interval = f"95 %: {self.low:{sign}.3f} to {self.high:{sign}.3f}"
        said = (
            f"low {self.low:{sign}.3f} ({value}, {interval})" if self.gate.figure == "low" else f"{value} ({interval})"
        )
        return f"{self.where}: {said}, asked: at least {self.gate.at_least:{sign}g}"


def held(rounds: Rounds) -> tuple[Held, ...]:
    """The gates, each held against all that it asks of the round that would be published."""
    figures = rounds.evaluated[rounds.chosen.iteration] if rounds.step.gates else {}
    return tuple(each for gate in rounds.step.gates for each in _held_against(gate, rounds.checks[gate.check], figures))


def _held_against(gate: Gate, check: Check, figures: Figures) -> Iterator[Held]:
    """The gate with each figure of its check: of an ExactMatch one a temperature, of a Benchmark one a metric of its tasks."""
    of_gain = check.type != "SelfWinRate" and gate.figure != "value"
    names = names_of(check, "gain" if of_gain else "after", figures)
    places = [f"{check.name} at T = {temperature:g}" for temperature in check.temperatures]
    if check.type == "Benchmark":
        places = [", ".join(name.rpartition(".")[0].split(".", 2)) for name in names]
    for where, name in zip(places or [check.name], names, strict=True):
        found = figures[name]
        yield Held(gate, name, where, of_gain, found["value"], found["low"], found["high"])


def refuse_unmet(rounds: Rounds) -> None:
    """ConfigError with the reason GateNotPassed and the figures in words, unless all gates are passed."""
    gates = rounds.step.gates
    unmet = [
        Problem(f"{FIELD}[{gates.index(each.gate)}]", None, f"{each.words}; nothing was published")
        for each in held(rounds)
        if not each.met
    ]
    if unmet:
        with refused_as("GateNotPassed"):
            raise ConfigError(unmet)
