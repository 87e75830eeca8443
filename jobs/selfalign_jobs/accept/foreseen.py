"""What a run will come to at most, known before it starts: rows, optimiser steps, and what of it deserves a second look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from selfalign_api.plan import Evaluate, Generate, Plan, Prepare, SourceRef, TableRef, Train
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.own_questions import KINDS
from selfalign_jobs.recipes.tables import learned_from
from selfalign_jobs.step import second_look
from selfalign_jobs.train.steps import step_count

Rows = Mapping[str, int]  # of the plan's sources, by name


def foreseen(plan: Plan, rows: Rows) -> Iterator[str]:
    """What deserves a second look already, each sentence once."""
    told: dict[str, None] = {}
    own = {kind.flow for kind in KINDS}
    for step in plan.steps:
        if isinstance(step, Train):
            pairs, settings = most_pairs(plan, step, rows), step.settings
            told |= dict.fromkeys(second_look.on_batches(pairs, settings.global_batch_size, step.rows))
            told |= dict.fromkeys(second_look.on_learning_rate(settings.learning_rate))
        if isinstance(step, Evaluate):
            asked = min(most_rows(plan, job.rows, rows) for job in step.loads[0].jobs if job.flow not in own)
            told |= dict.fromkeys(second_look.on_held_out(asked))
    yield from told


def most_pairs(plan: Plan, step: Train, rows: Rows) -> int:
    """Pairs that a training reads if every record becomes one: as many as a record of the recipes can."""
    return most_rows(plan, step.data, rows)


def most_rows(plan: Plan, prepare: Prepare, rows: Rows) -> int:
    """Rows of a prepared table if no record of an earlier step is dropped."""
    return rows_made(plan, prepare, lambda ref: _most_given(plan, ref, rows))


def rows_made(plan: Plan, prepare: Prepare, given: Callable[[TableRef], int]) -> int:
    """Rows of a prepared table at the most, of so many rows of a source, or records of a step's table, as are `given`."""
    made = recipe(plan.recipe).prepares[prepare.fn]
    return made.most([given(ref) for ref in learned_from(prepare)], prepare.options)


def _most_given(plan: Plan, ref: TableRef, rows: Rows) -> int:
    """Rows of a source, or records of the table that an earlier step writes."""
    if isinstance(ref, SourceRef):
        return rows[ref.name]
    step = plan.step(ref.step)
    assert isinstance(step, Generate | Evaluate)
    (job,) = (job for load in step.loads for job in load.jobs if job.out == ref.name)
    return most_rows(plan, job.rows, rows)


def most_steps(plan: Plan, step: Train, rows: Rows) -> int:
    """Optimiser steps of a training on so many pairs: each epoch ends with a batch of what is left."""
    settings = step.settings
    return step_count(most_pairs(plan, step, rows), settings.epochs, settings.global_batch_size)
