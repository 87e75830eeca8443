"""What a run will come to at most, known before it starts: rows, optimiser steps, and what of it deserves a second look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from selfalign_api.plan import ArtifactRef, Evaluate, Generate, Plan, Prepare, SourceRef, TableRef, Train
from selfalign_jobs.recipes.tables import learned_from, rows_drawn
from selfalign_jobs.step import second_look
from selfalign_jobs.train.steps import step_count

Rows = Mapping[str, int]  # of the plan's sources, by name


def foreseen(plan: Plan, rows: Rows) -> Iterator[str]:
    """What deserves a second look already, each sentence once."""
    told: dict[str, None] = {}
    for step in plan.steps:
        if isinstance(step, Train):
            pairs, settings = most_pairs(plan, step, rows), step.settings
            told |= dict.fromkeys(second_look.on_batches(pairs, settings.global_batch_size, step.rows))
            told |= dict.fromkeys(second_look.on_learning_rate(settings.learning_rate))
        if isinstance(step, Evaluate):
            asked = min(most_rows(plan, job.rows, rows) for job in step.loads[0].jobs)
            told |= dict.fromkeys(second_look.on_held_out(asked))
    yield from told


def most_pairs(plan: Plan, step: Train, rows: Rows) -> int:
    """Pairs that a training reads if every record becomes one: as many as a record of the recipes can."""
    return most_rows(plan, step.data, rows)


def most_rows(plan: Plan, prepare: Prepare, rows: Rows) -> int:
    """Rows of a prepared table if no record of an earlier step is dropped."""
    if "rows" in prepare.options:
        return int(prepare.options["rows"])
    if "parts" in prepare.options:
        source = prepare.inputs[0]
        assert isinstance(source, SourceRef)
        if prepare.fn == "apart-questions":
            return int(min(rows[source.name], prepare.options["apart"]))
        parts = len(prepare.options.get("window", "1")) * len(prepare.options.get("drafts", "1"))
        return rows_drawn(rows[source.name], prepare.options) * parts // int(prepare.options.get("folds", 1))
    if "shuffles" in prepare.options:
        source, options = prepare.inputs[0], prepare.options
        given = _most_given(plan, source, rows, options["count"]) * options.get("questions", 1)
        return int(
            min(given, options["most"]) if "most" in options else given * options["shuffles"] // (1 + options["shots"])
        )
    if "of_each" in prepare.options:  # so many of each prompt that all its tables answer
        first = prepare.inputs[0]
        assert isinstance(first, ArtifactRef)
        return _made(plan, first, rows) * int(prepare.options["of_each"])
    found = 0
    for ref in learned_from(prepare):
        most = rows[ref.name] if isinstance(ref, SourceRef) else _made(plan, ref, rows)
        quota = prepare.options.get("max_new_pairs")
        found += most if quota is None else min(most, quota)
    return found


def _most_given(plan: Plan, ref: TableRef, rows: Rows, count: int | None) -> int:
    """Rows of a table, or so many of them."""
    most = rows[ref.name] if isinstance(ref, SourceRef) else _made(plan, ref, rows)
    return most if count is None else min(most, count)


def most_steps(plan: Plan, step: Train, rows: Rows) -> int:
    """Optimiser steps of a training on so many pairs: each epoch ends with a batch of what is left."""
    settings = step.settings
    return step_count(most_pairs(plan, step, rows), settings.epochs, settings.global_batch_size)


def _made(plan: Plan, ref: ArtifactRef, rows: Rows) -> int:
    """Records of the table that an earlier step writes."""
    step = plan.step(ref.step)
    assert isinstance(step, Generate | Evaluate)
    (job,) = (job for load in step.loads for job in load.jobs if job.out == ref.name)
    return most_rows(plan, job.rows, rows)
