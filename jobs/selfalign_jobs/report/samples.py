"""Pairs of an iteration for a person to read, drawn and not picked."""

from __future__ import annotations

from collections.abc import Iterator

from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence, Iteration
from selfalign_jobs.report.figures import sample_pairs
from selfalign_jobs.report.of_tables import makes_pairs, of
from selfalign_jobs.report.section import Section
from selfalign_jobs.step.pair_figures import kept_pairs


def sections_of_samples(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    """A section a table of pairs."""
    found = recipe(evidence.plan.recipe)
    for made in iteration.made:
        if made.table is not None and makes_pairs(found, made) and (kept := kept_pairs(made.table).num_rows):
            facts = {"pairs": sample_pairs(made.table, evidence.plan.seed % 2**32), "kept": kept}
            yield Section("samples", "Sample pairs", "samples", facts, of=of(iteration, made))
