"""A comparison: the runs, and all that is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfalign_jobs.compare.costs import Costs, costs_of
from selfalign_jobs.compare.held_out import held_out_of_all
from selfalign_jobs.compare.paired import Difference, Figure, differences, shared_figures
from selfalign_jobs.compare.runs import ComparedRun, read_runs
from selfalign_jobs.compare.spec import Differing, differing_specs
from selfalign_jobs.places.store import Folder


@dataclass(frozen=True)
class Comparison:
    """Runs that were evaluated on the same prompts; the first is what the others are compared with."""

    runs: tuple[ComparedRun, ...]
    prompts: int
    figures: tuple[Figure, ...]
    differences: tuple[Difference, ...]
    spec: tuple[Differing, ...]
    costs: tuple[Costs, ...]

    def against_first(self, figure: Figure) -> tuple[Difference, ...]:
        """How the others differ from the first in a figure."""
        return tuple(each for each in self.differences if each.figure == figure and each.against is self.runs[0])


def read_comparison(folders: Sequence[Folder]) -> Comparison:
    """Read runs and compare them. ConfigError, in words, where that cannot be."""
    runs = read_runs(folders)
    prompts = held_out_of_all(runs)
    figures = shared_figures(runs)
    return Comparison(
        runs=runs,
        prompts=len(prompts),
        figures=figures,
        differences=differences(runs, figures),
        spec=differing_specs(runs),
        costs=tuple(costs_of(run) for run in runs),
    )
