"""Prepared tables: a step runs its `Prepare` once, keeps the result beside its outputs, and reads that on resume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, Prepare, TableRef
from selfalign_jobs.gather import gathered
from selfalign_jobs.places.sources import open_source, read_source
from selfalign_jobs.places.store import read_manifest, read_parts, step_folder
from selfalign_jobs.recipes.base import Rows, recipe
from selfalign_jobs.step.context import StepContext


def prepare_table(context: StepContext, prepare: Prepare, name: str) -> pa.Table:
    """The table that `prepare` makes, kept as `prepared/<name>.parquet` in the step's folder."""
    return context.folder.read_table(prepared_file(context, prepare, name))


def prepared_file(
    context: StepContext, prepare: Prepare, name: str, finish: Callable[[pa.Table], pa.Table] | None = None
) -> str:
    """The name of that file in the step's folder, where it is then; `finish` adds what takes the step's own means."""
    kept = f"prepared/{name}.parquet"
    if not context.folder.exists(kept):
        table = _prepared(context, prepare)
        context.folder.write_table(kept, table if finish is None else finish(table))
    return kept


def _prepared(context: StepContext, prepare: Prepare) -> pa.Table:
    found = recipe(context.config.plan.recipe).prepares[prepare.fn]
    if found.takes_rows:
        return found.run(tuple(_rows(context, ref) for ref in prepare.inputs), prepare.options)
    return found.run(tuple(read_input(context, ref, found.reads) for ref in prepare.inputs), prepare.options)


def _rows(context: StepContext, ref: TableRef) -> Rows:
    """The same for a function that only takes rows by number: a source is not held."""
    if isinstance(ref, ArtifactRef):
        table: Rows = read_input(context, ref)
        return table
    return open_source(ref.name, context.config.plan.sources[ref.name], context.config.mounts)


def read_input(context: StepContext, ref: TableRef, columns: tuple[str, ...] | None = None) -> pa.Table:
    """A table of the user's, of an earlier step, or of an earlier engine load of this step: its rows only.

    Of a step's table no more than `columns` is read, where they are given.
    """
    plan = context.config.plan
    wanted = None if columns is None else (*columns, "_source", "_status")
    if not isinstance(ref, ArtifactRef):
        return read_source(ref.name, plan.sources[ref.name], context.config.mounts)
    if ref.step == context.config.step:
        return rows_of(read_parts(context.folder, context.tables[ref.name], wanted))
    step = plan.step(ref.step)
    folder = step_folder(context.run, step.iteration, step.name)
    manifest = read_manifest(folder)
    if manifest is None:
        raise RuntimeError(f"step {ref.step} is not done; it runs before {context.config.step}")
    return rows_of(read_parts(folder, manifest.tables[ref.name], wanted))


def rows_of(table: pa.Table) -> pa.Table:
    """A table of records without those that ended without rows; the ledger's columns (`_…`) taken out.

    Rows stand in the order of the rows that they came from: the order in which records finished, and which attempt
    made them, changes nothing for whoever reads them.
    """
    rows = table.select([name for name in table.column_names if not name.startswith("_")])
    if "_status" not in table.column_names:
        return rows
    kept = np.flatnonzero(pc.equal(table["_status"], "rows").to_numpy())
    order = np.argsort(table["_source"].to_numpy()[kept], kind="stable")  # a record's rows keep their order
    return gathered(rows, kept[order])
