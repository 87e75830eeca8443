"""The comparison as a page: results, differences, spec, costs, trainings, funnels, runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfalign_api import __version__
from selfalign_jobs.compare.beside import funnels_section, trainings_section
from selfalign_jobs.compare.comparison import Comparison
from selfalign_jobs.compare.costs import Costs
from selfalign_jobs.compare.paired import Difference, Figure
from selfalign_jobs.compare.runs import ComparedRun
from selfalign_jobs.compare.spec import UNSET
from selfalign_jobs.report.chart import Interval, interval_chart
from selfalign_jobs.report.layout import page
from selfalign_jobs.report.result import signed
from selfalign_jobs.report.scale import count, duration
from selfalign_jobs.report.section import Section
from selfalign_jobs.report.tiles import Tile

LABEL = 18  # characters of a run's label in a chart


def render(comparison: Comparison) -> str:
    """The page."""
    sections = [
        _results(comparison),
        _paired(comparison),
        _spec(comparison),
        _costs(comparison),
        *trainings_section(comparison),
        *funnels_section(comparison),
        _runs(comparison),
    ]
    return page(
        "compare.html.j2",
        "compare_parts.html.j2",
        list(_tiles(comparison)),
        sections,
        runs=comparison.runs,
        prompts=comparison.prompts,
        version=__version__,
    )


def _tiles(comparison: Comparison) -> Iterator[Tile]:
    """The first figure of each run."""
    figure = comparison.figures[0]
    for run in comparison.runs:
        parts = figure.parts(run.results)
        value = " → ".join(f"{parts[part]['value']:.3f}" for part in ("before", "after") if part in parts)
        found = next((each for each in comparison.against_first(figure) if each.run is run), None)
        detail = figure.words if found is None else f"{_interval_of(found)} against {found.against.letter}"
        yield Tile(run.label, value, detail)


def _interval_of(found: Difference) -> str:
    estimate = found.estimate
    return f"{signed(estimate.value)} [{signed(estimate.low)}, {signed(estimate.high)}]"


def _results(comparison: Comparison) -> Section:
    charts = [
        (figure, interval_chart(figure.words, "share of the held-out prompts", list(_intervals(comparison, figure))))
        for figure in comparison.figures
    ]
    rows = [
        {"figure": figure, "run": run, "parts": figure.parts(run.results)}
        for figure in comparison.figures
        for run in comparison.runs
    ]
    return Section("result", "Before and after", "results", {"charts": charts, "rows": rows})


def _intervals(comparison: Comparison, figure: Figure) -> Iterator[Interval]:
    """The initial model of each run, and the model after each evaluated iteration."""
    for run in comparison.runs:
        evaluated = [each for each in run.evidence.iterations if each.results]
        before = figure.parts(run.results).get("before")
        if before is not None:
            yield _row(f"{_short(run)}, before", before, hollow=True)
        for iteration in evaluated:
            which = f", iteration {iteration.number}" if len(evaluated) > 1 else ", after" if before else ""
            yield _row(f"{_short(run)}{which}", figure.parts(iteration.results)["after"])


def _row(label: str, found: dict[str, Any], hollow: bool = False) -> Interval:
    return Interval(label, found["value"], found["low"], found["high"], hollow)


def _short(run: ComparedRun) -> str:
    return run.label if len(run.label) <= LABEL else f"{run.label[: LABEL - 1]}…"


def _paired(comparison: Comparison) -> Section:
    first = comparison.runs[0]
    charts = []
    for figure in comparison.figures:
        rows = [
            Interval(_short(each.run), each.estimate.value, each.estimate.low, each.estimate.high)
            for each in comparison.against_first(figure)
        ]
        title = f"{figure.words}: above {first.letter}, paired"
        charts.append((figure, interval_chart(title, "difference of the shares", rows, low=0, high=0, level=0)))
    facts = {"charts": charts, "rows": comparison.differences, "first": first}
    return Section("paired", "Paired differences", "paired", facts, tuple(_notes(comparison)))


def _notes(comparison: Comparison) -> Iterator[str]:
    first = comparison.runs[0]
    for figure in comparison.figures:
        found = comparison.against_first(figure)
        unclear = [each.run.letter for each in found if not each.clear]
        if unclear:
            yield f"{figure.words}: no clear difference from {first.letter} for {', '.join(unclear)}."


def _spec(comparison: Comparison) -> Section:
    rows = [
        {"field": row.field, "values": [None if value is UNSET else value for value in row.values]}
        for row in comparison.spec
    ]
    return Section("spec", "What differs", "spec", {"rows": rows, "runs": comparison.runs})


def _costs(comparison: Comparison) -> Section:
    """A row a quantity, a column a run."""
    costs = comparison.costs
    sources = dict.fromkeys(source for each in costs for source in each.read)
    rows: list[tuple[str, list[str]]] = [
        (f"rows read of {source}", [_read(each, source) for each in costs]) for source in sources
    ]
    rows += [(f"tokens {word}", [count(each.tokens[word]) for each in costs]) for word in costs[0].tokens]
    rows.append(("engine starts", [count(each.engine_starts) for each in costs]))
    rows += [(f"time of {word}", [duration(each.seconds[word]) for each in costs]) for word in costs[0].seconds]
    rows.append(("time at work", [duration(sum(each.seconds.values())) for each in costs]))
    if any(each.reused for each in costs):
        rows.append(("of it taken over from other runs", [", ".join(each.reused) or "–" for each in costs]))
    return Section("costs", "Data, tokens, time", "costs", {"rows": rows, "runs": comparison.runs})


def _read(costs: Costs, source: str) -> str:
    """Rows of a source: each number once, with how many tables are made of so many."""
    tables = list(costs.read.get(source, {}).values())
    told = [
        count(rows) if tables.count(rows) == 1 else f"{tables.count(rows)} × {count(rows)}"
        for rows in dict.fromkeys(tables)
    ]
    return " + ".join(told) or "–"


def _runs(comparison: Comparison) -> Section:
    return Section("runs", "Runs", "runs", {"runs": comparison.runs})
