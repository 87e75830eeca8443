"""Training curves of several runs on the same axes, and their funnels beside one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfalign_jobs.compare.comparison import Comparison
from selfalign_jobs.compare.runs import ComparedRun
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.chart import Curve, overlaid_curves
from selfalign_jobs.report.diversity import diversities
from selfalign_jobs.report.evidence import Trained, learns_from
from selfalign_jobs.report.figures import Stage
from selfalign_jobs.report.of_tables import funnel_rows, is_told, of, stages_of
from selfalign_jobs.report.of_trainings import SERIES, curve_of
from selfalign_jobs.report.section import Section

LINES = 8  # that the style sheet tells apart


def line_of(run: ComparedRun) -> str:
    """The class of a run's curves."""
    return f"s{run.number % LINES}"


def trainings_section(comparison: Comparison) -> Iterator[Section]:
    """A group of charts for each objective, model and iteration that a training of any run has."""
    groups: dict[tuple[str, str, int], dict[int, Trained]] = {}
    for run in comparison.runs:
        for iteration in run.evidence.iterations:
            for trained in iteration.trained:
                if trained.log is not None and trained.log.num_rows:
                    key = (trained.step.objective, trained.step.result.lineage, iteration.number)
                    groups.setdefault(key, {})[run.number] = trained
    shown = [_group(comparison, *key, groups[key]) for key in groups]
    if shown:
        yield Section("training", "Training", "trainings", {"groups": shown})


def _group(
    comparison: Comparison, objective: str, lineage: str, number: int, found: dict[int, Trained]
) -> dict[str, Any]:
    charts = []
    for series in SERIES[objective]:
        curves: list[tuple[str, Curve]] = []
        for run in comparison.runs:
            if run.number in found and (curve := curve_of(found[run.number], series)) is not None:
                curves.append((line_of(run), curve))
        if curves:
            title = series.title.format("they are labelled")
            chart = overlaid_curves(
                title, "optimiser step", series.unit, curves, level=series.level, noisy=series.noisy
            )
            charts.append((title, chart))
    keys = [(line_of(run), run.label, found[run.number]) for run in comparison.runs if run.number in found]
    several = any(len(run.evidence.iterations) > 1 for run in comparison.runs)
    words = [f"{objective} training of the {lineage}", f"iteration {number}" if several else ""]
    return {"title": ", ".join(filter(None, words)), "charts": charts, "keys": keys}


def funnels_section(comparison: Comparison) -> Iterator[Section]:
    """From rows to what was trained on, run by run."""
    columns = [{"run": run, "funnels": list(_funnels(run))} for run in comparison.runs]
    if any(column["funnels"] for column in columns):
        yield Section("funnels", "From rows to training", "funnels", {"columns": columns})


def _funnels(run: ComparedRun) -> Iterator[dict[str, Any]]:
    """Of what its recipe tells at length, and of trainings on tables of the user's, iteration by iteration."""
    found = recipe(run.plan.recipe)
    for iteration in run.evidence.iterations:
        written = {made.ref: figures for made, figures in diversities(iteration, run.plan.seed)}
        which = f", iteration {iteration.number}" if len(run.evidence.iterations) > 1 else ""
        for made in iteration.made:
            if made.table is not None and is_told(found, made):
                rows = funnel_rows(stages_of(iteration, made, found))
                yield {"title": of(iteration, made) + which, "rows": rows, "diversity": written.get(made.ref)}
        for trained in iteration.trained:
            if trained.facts.manifest is not None and not learns_from(trained.step):
                lost = tuple(trained.left_out.items())
                given = Stage(f"{trained.step.rows} given", trained.rows + sum(n for _, n in lost), lost)
                stages = (given, Stage("trained on", trained.rows, ()))
                yield {"title": trained.step.name, "rows": funnel_rows(stages), "diversity": None}
