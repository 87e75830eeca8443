"""Pairs of an iteration for a person to read, drawn and not picked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from selfalign_api.plan import Judge
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence, Iteration
from selfalign_jobs.report.figures import sample_pairs
from selfalign_jobs.report.of_tables import is_scored, makes_pairs, of, unit_of
from selfalign_jobs.report.section import Section
from selfalign_jobs.step.pair_figures import kept_pairs


@dataclass(frozen=True)
class Pairs:
    """A table of pairs of an iteration."""

    table: pa.Table
    whose: str  # kept, of those that were made; or given
    of: str
    judge: Judge | None = None


def sections_of_samples(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    """A section a table of pairs, made or given."""
    for found in _tables(evidence, iteration):
        pairs = sample_pairs(found.table, evidence.plan.seed % 2**32)
        judged = any(pair["margin"] is not None for pair in pairs)
        facts = {"pairs": pairs, "kept": kept_pairs(found.table).num_rows, "whose": found.whose, "judged": judged}
        facts |= {"unit": unit_of(found.judge), "scored": is_scored(found.judge)}
        yield Section("samples", "Sample pairs", "samples", facts, of=found.of)


def newest_pairs(evidence: Evidence, most: int) -> list[dict[str, Any]]:
    """So many pairs of the newest iteration that has any, of all its tables alike."""
    for iteration in reversed(evidence.iterations):
        tables = list(_tables(evidence, iteration))
        drawn = [sample_pairs(found.table, evidence.plan.seed % 2**32, most) for found in tables]
        if drawn:
            together = [pair for turn in zip_longest(*drawn) for pair in turn if pair is not None]
            return [{"iteration": iteration.number} | pair for pair in together[:most]]
    return []


def _tables(evidence: Evidence, iteration: Iteration) -> Iterator[Pairs]:
    """The tables of pairs that an iteration has, those with any row."""
    recipe_of_run = recipe(evidence.plan.recipe)
    made = (each for each in iteration.made if each.table is not None and makes_pairs(recipe_of_run, each))
    found = [Pairs(each.table, "kept", of(iteration, each), each.job.judge) for each in made]
    found += [Pairs(each.given, "given", each.facts.step.name) for each in iteration.trained if each.given is not None]
    yield from (each for each in found if kept_pairs(each.table).num_rows > 0)
