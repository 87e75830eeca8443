"""What an iteration's flows made, in the report: a funnel a flow, verdicts, scores, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from selfalign_api.plan import ArtifactRef, Generate, Judge, Plan, SourceRef, Train, artifacts_of
from selfalign_jobs.recipes.answers import repetition
from selfalign_jobs.recipes.base import Recipe, Remark, recipe
from selfalign_jobs.report.chart import bar, histogram, scatter
from selfalign_jobs.report.diversity import Diversity, diversities
from selfalign_jobs.report.evidence import Evidence, Iteration, Made, learns_from
from selfalign_jobs.report.figures import OPEN, Stage, funnel, order_margins, scores
from selfalign_jobs.report.scale import count
from selfalign_jobs.report.section import Section
from selfalign_jobs.step import second_look
from selfalign_jobs.step.pair_figures import (
    VERDICT_COLUMNS,
    Verdicts,
    is_pairs,
    kept_pairs,
    lengths,
    verdicts,
)

BOTH_ORDERS = Markup(
    "<b>Margins of both orders</b>: log p(first sample better) − log p(second better), with the first sample shown first and "
    "shown second; a dot a record"
)
KEPT = Markup("<b>Margins of the kept pairs</b>: how sure the judge was; ▲ mean")


def is_scored(judge: Judge | None) -> bool:
    """Whether a scoring model judges: its verdicts have no order."""
    return judge is not None and judge.method == "score"


def unit_of(judge: Judge | None) -> str:
    """What margins are counted in: nats, or, of a scoring model, as its scores are."""
    return "score gap" if is_scored(judge) else "nats"


def sections_of_tables(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    """The sections of its tables: those of a recipe's own flows at length, of all others what became of their records."""
    found = recipe(evidence.plan.recipe)
    remarks, written = told_of(evidence, iteration), list(diversities(iteration, evidence.plan.seed))
    for made in (made for made in iteration.made if made.table is not None and is_told(found, made)):
        yield _funnel(iteration, made, found, [remark for remark in remarks if remark.table == made.job.out])
        yield from (_diversity(iteration, made, figures) for writer, figures in written if writer is made)
        yield from _verdicts(iteration, made)
        yield from _scores(iteration, made)
        yield from _lengths(iteration, made, found)
    others = [made for made in iteration.made if made.table is not None and not is_told(found, made)]
    rows = [(made, stages_of(iteration, made, found)[0]) for made in others]
    # Of what only evaluations read, their own section says all, unless something was lost.
    learned = read_on(evidence.plan)
    shown = [
        {"made": made, "stage": stage}
        for made, stage in rows
        if made.ref in learned or any(reason != OPEN for reason, _ in stage.lost)
    ]
    if shown:
        yield Section("tables", "Further tables", "tables", {"rows": shown})
    for made in others:
        yield from (_diversity(iteration, made, figures) for writer, figures in written if writer is made)
        yield from _scores(iteration, made)


def read_on(plan: Plan) -> frozenset[ArtifactRef]:
    """The tables that trainings learn from, or that flows make others of."""
    found: set[ArtifactRef] = set()
    for step in plan.steps:
        if isinstance(step, Train):
            found |= {*learns_from(step)}
        elif isinstance(step, Generate):
            found |= {*artifacts_of(step)}
    return frozenset(found)


def remarks_of(found: Recipe, iteration: Iteration) -> list[Remark]:
    """What the recipe alone knows to read of the iteration's tables."""
    return list(found.remarks({made.job.out: made.table for made in iteration.made if made.table is not None}))


def told_of(evidence: Evidence, iteration: Iteration) -> list[Remark]:
    """The same, those that should rise with their value of the iteration before."""
    found = recipe(evidence.plan.recipe)
    former = next((each for each in evidence.iterations if each.number == iteration.number - 1), None)
    before = {} if former is None else {remark.name: remark.value for remark in remarks_of(found, former)}
    remarks = remarks_of(found, iteration)
    return [replace(remark, before=before.get(remark.name)) if remark.rises else remark for remark in remarks]


def is_told(found: Recipe, made: Made) -> bool:
    """Whether a table is told of at length: pairs, and what a flow with milestones of its own makes."""
    has_milestones = bool(found.flows[made.job.flow].milestones)
    return isinstance(made.facts.step, Generate) and (has_milestones or makes_pairs(found, made))


def makes_pairs(found: Recipe, made: Made) -> bool:
    """Whether its rows are pairs of answers."""
    return isinstance(made.facts.step, Generate) and is_pairs(found.flows[made.job.flow].schema)


def of(iteration: Iteration, made: Made) -> str:
    """What tells a table of the iteration from its others."""
    twice = Counter(other.job.out for other in iteration.made)[made.job.out] > 1
    return f"{made.job.out} of {made.facts.step.name}" if twice else made.job.out


def stages_of(iteration: Iteration, made: Made, found: Recipe) -> tuple[Stage, ...]:
    """The funnel of a flow, the training's own losses included where that learns from this table only."""
    assert made.table is not None
    stages = funnel(
        made.table, made.drawn, _source(made), found.flows[made.job.flow].milestones, kept=f"{made.job.out} kept"
    )
    trained = iteration.only_reader(made)
    if trained is not None and trained.facts.manifest is not None:
        *before, kept = stages
        lost = tuple(trained.left_out.items())
        rest = Stage("trained on", kept.records - sum(n for _, n in lost), ())
        return (*before, Stage(kept.label, kept.records, lost), rest)
    return stages


def _source(made: Made) -> str:
    """What the rows of a flow are: a table of the user's, or of an earlier step."""
    inputs: Sequence[ArtifactRef | SourceRef] = made.job.rows.inputs
    given = next((ref.name for ref in inputs if isinstance(ref, SourceRef)), None)
    return given or next((ref.name for ref in inputs), "rows")


def funnel_rows(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """A funnel as its part of the template shows it."""
    widest = max(1, stages[0].records)
    rows = []
    for stage in stages:
        lost = sum(n for _, n in stage.lost)
        words = f"{count(stage.records)} {stage.label}, {count(lost)} of them lost after"
        segments = [((stage.records - lost) / widest, "a", words), (lost / widest, "lost", words)]
        rows.append({"stage": stage, "share": stage.records / widest, "bar": bar(segments)})
    return rows


def _funnel(iteration: Iteration, made: Made, found: Recipe, remarks: Sequence[Remark]) -> Section:
    assert made.table is not None
    stages = stages_of(iteration, made, found)
    kept = next(stage.records for stage in stages if stage.label == f"{made.job.out} kept")
    ended = stages[0].records - sum(n for reason, n in stages[0].lost if reason == OPEN)
    notes = list(second_look.on_prompts(repetition(made.table))) if "prompt" in made.table.column_names else []
    if ended == stages[0].records and makes_pairs(found, made):
        notes += second_look.on_records(ended, kept, Counter({why: n for stage in stages for why, n in stage.lost}))
    title = f"From {stages[0].label.removesuffix(' drawn')} to {made.job.out}"
    return Section(
        "funnel",
        title,
        "funnel",
        {"rows": funnel_rows(stages), "remarks": remarks},
        tuple(notes),
        of=of(iteration, made),
    )


def _diversity(iteration: Iteration, made: Made, figures: Diversity) -> Section:
    return Section("diversity", "Diversity of the prompts", "diversity", {"found": figures}, of=of(iteration, made))


def _verdicts(iteration: Iteration, made: Made) -> Iterator[Section]:
    if made.table is None or not set(made.table.column_names) >= VERDICT_COLUMNS:
        return
    found: Verdicts = verdicts(made.table, made.job.judge.tie_margin if made.job.judge else 0.0)
    if not found.judged:
        return
    charts: list[tuple[Markup, Markup]] = []
    forward, backward = order_margins(made.table)
    if len(forward):
        corners = ("orders agree", "prefers the second", "prefers the first")
        titles = ("Margins of both orders", "shown first, nats", "shown second, nats")
        charts.append((BOTH_ORDERS, scatter(*titles, forward, backward, corners)))
    kept, unit = kept_pairs(made.table)["margin"].drop_null().to_numpy(), unit_of(made.job.judge)
    if len(kept):
        chart = histogram("Margins of the kept pairs", f"margin, {unit}", "% of pairs", kept, np.array([]))
        charts.append((KEPT, chart))
    facts = {
        "verdicts": found,
        "charts": charts,
        "judge": made.job.judge,
        "unit": unit,
        "scored": is_scored(made.job.judge),
    }
    notes = tuple(second_look.on_verdicts(found))
    yield Section("verdicts", "Verdicts", "verdicts", facts, notes, of=of(iteration, made))


def _scores(iteration: Iteration, made: Made) -> Iterator[Section]:
    assert made.table is not None
    charts = [
        {"name": name, "pair": len(rejected) > 0, "chart": histogram(name, "score", "% of rows", chosen, rejected)}
        for name, chosen, rejected in scores(made.table)
    ]
    if charts:
        yield Section("scores", "Scores", "scores", {"charts": charts}, of=of(iteration, made))


def _lengths(iteration: Iteration, made: Made, found: Recipe) -> Iterator[Section]:
    if made.table is not None and makes_pairs(found, made):
        yield from lengths_of(made.table, "kept", of(iteration, made), judged=made.job.judge is not None)


def lengths_of(table: pa.Table, whose: str, of_what: str, *, judged: bool) -> Iterator[Section]:
    """The lengths of both sides of pairs."""
    answers = lengths(table)
    if answers is not None:
        title = "Lengths of chosen and rejected answers"
        chart = histogram(title, "tokens", "% of answers", answers.chosen, answers.rejected)
        facts = {"chart": chart, "lengths": answers, "judged": judged, "whose": whose}
        notes = tuple(second_look.on_lengths(answers))
        yield Section("lengths", "Lengths", "lengths", facts, notes, of=of_what)
