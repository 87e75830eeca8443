"""Pairs of an iteration for a person to read, drawn and not picked."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from selfalign_api.plan import Judge
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence, Iteration
from selfalign_jobs.report.figures import sample_pairs
from selfalign_jobs.report.of_tables import is_scored, makes_pairs, of, unit_of
from selfalign_jobs.report.section import Section
from selfalign_jobs.step.pair_figures import kept_pairs


def sections_of_samples(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    """A section a table of pairs, made or given."""
    found = recipe(evidence.plan.recipe)
    for made in iteration.made:
        if made.table is not None and makes_pairs(found, made):
            yield from _sample(evidence, made.table, "kept", of(iteration, made), made.job.judge)
    for trained in iteration.trained:
        if trained.given is not None:
            yield from _sample(evidence, trained.given, "given", trained.facts.step.name)


def _sample(
    evidence: Evidence, table: pa.Table, whose: str, of_what: str, judge: Judge | None = None
) -> Iterator[Section]:
    if (number := kept_pairs(table).num_rows) > 0:
        pairs = sample_pairs(table, evidence.plan.seed % 2**32)
        judged = any(pair["margin"] is not None for pair in pairs)
        facts = {"pairs": pairs, "kept": number, "whose": whose, "judged": judged, "unit": unit_of(judge)}
        facts["scored"] = is_scored(judge)
        yield Section("samples", "Sample pairs", "samples", facts, of=of_what)
