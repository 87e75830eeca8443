"""What a comparison is shown by: compare.html, compare.json, and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfalign_api.plan_values import Json
from selfalign_jobs.compare.comparison import Comparison, read_comparison
from selfalign_jobs.compare.costs import Costs
from selfalign_jobs.compare.page import render
from selfalign_jobs.compare.paired import Difference
from selfalign_jobs.compare.spec import UNSET
from selfalign_jobs.places.store import Folder
from selfalign_jobs.report.result import signed

PAGE = "compare.html"
FIGURES = "compare.json"


def compare(folders: Sequence[Folder], out: Folder, console: Console) -> None:
    """Write both files into `out`, each whole, and print the main figures. Raises ConfigError, with nothing written."""
    comparison = read_comparison(folders)
    page, figures = render(comparison), json.dumps(figures_of(comparison), indent=1)
    out.write(FIGURES, figures.encode())
    out.write(PAGE, page.encode())
    console.print(_table(comparison))
    console.print(Text(f"comparison: {out.place}/{PAGE}"), soft_wrap=True)


def figures_of(comparison: Comparison) -> dict[str, Json]:
    """The comparison for programs; runs by their letter."""
    letters = [run.letter for run in comparison.runs]
    return {
        "runs": {
            run.letter: {
                "name": run.plan.name,
                "place": run.folder.place,
                "recipe": run.plan.recipe,
                "version": run.plan.version,
                "seed": run.plan.seed,
                "digest": run.plan.digest,
                "finished": run.evidence.finished,
                "iteration": run.newest.number,
                "results": run.results,
                **_costs(costs),
            }
            for run, costs in zip(comparison.runs, comparison.costs, strict=True)
        },
        "heldOutPrompts": comparison.prompts,
        "spec": {
            row.field: {letter: value for letter, value in zip(letters, row.values, strict=True) if value is not UNSET}
            for row in comparison.spec
        },
        "paired": [
            {"figure": each.figure.name, "run": each.run.letter, "against": each.against.letter} | asdict(each.estimate)
            for each in comparison.differences
        ],
    }


def _costs(costs: Costs) -> dict[str, Json]:
    return {
        "rowsRead": costs.read,
        "tokens": costs.tokens,
        "engineStarts": costs.engine_starts,
        "seconds": costs.seconds,
        "reused": list(costs.reused),
    }


def _table(comparison: Comparison) -> Table:
    """A line a run and figure: before, after, and how it differs from the first run."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("run", "figure", "before → after", f"against {comparison.runs[0].letter} (95 %)"):
        table.add_column(heading)
    for run in comparison.runs:
        for number, figure in enumerate(comparison.figures):
            parts = figure.parts(run.results)
            values = [f"{parts[part]['value']:.3f}" for part in ("before", "after") if part in parts]
            if "controlled" in parts:
                values[-1] += f" (length-controlled {parts['controlled']['value']:.3f})"
            against = [_difference(each) for each in comparison.against_first(figure) if each.run is run]
            table.add_row("" if number else Text(run.label), figure.words, " → ".join(values), *against)
    return table


def _difference(found: Difference) -> str:
    estimate = found.estimate
    return f"{signed(estimate.value)} ({signed(estimate.low)} to {signed(estimate.high)})"
