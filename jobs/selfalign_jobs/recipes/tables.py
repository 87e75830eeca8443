"""Whole-table functions that recipes share (`Prepare.fn`): pure, Arrow in, Arrow out."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Json, Prepare, TableRef
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import Rows

COUNTS_KEY = b"selfalign.counts"


def with_counts(table: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """The table with figures about its making, kept in its schema's metadata."""
    return table.replace_schema_metadata({COUNTS_KEY: json.dumps(dict(counts)).encode()})


def counts_of(table: pa.Table) -> dict[str, int]:
    """The figures that `with_counts` kept."""
    return dict(json.loads((table.schema.metadata or {}).get(COUNTS_KEY, b"{}")))


def draw(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """Rows without replacement: part `part` of the seeded shuffle, after `apart` rows kept for evaluation.

    `count` rows a part; without one, part k of `parts` equal parts. Raises ConfigError when there are too few rows.
    """
    (table,) = tables
    chosen = drawn_numbers(table.num_rows, options)
    if options["blank"]:
        return pa.table({"persona": pa.nulls(len(chosen), pa.string())})
    return table.take(row_numbers(chosen))


def drawn_numbers(rows: int, options: Mapping[str, Json]) -> np.ndarray:
    """The numbers of the rows that `draw` takes of so many."""
    order = shuffled(rows, options["seed"])[options["apart"] :]
    count = rows_drawn(rows, options)
    chosen = order[options["part"] * count :][:count]
    if len(chosen) < count or count == 0:
        needed = options["apart"] + max(count, 1) * (options["part"] + 1)
        apart = (
            f"; {options['apart']} rows are set apart for evaluation: with prompts of its own (evaluation.prompts), or with "
            "evaluation: {when: Never}, none are"
        )
        raise ConfigError.one(
            "spec.data",
            f"{needed} rows are needed and there are {rows}; write a smaller count or fewer iterations, or give "
            f"a larger source{apart if options['apart'] else ''}",
        )
    return chosen


def rows_drawn(rows: int, options: Mapping[str, Json]) -> int:
    """How many rows `draw` takes of a table of so many, if there are enough."""
    return int(options["count"] or max(0, rows - options["apart"]) // options["parts"])


def as_made(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:  # noqa: ARG001
    """The rows of a table, for the next model."""
    (table,) = tables
    return table


def questions(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:  # noqa: ARG001
    """The distinct prompts of a table, in its order, with their reference answers where there are any."""
    (table,) = tables
    columns = {name: table[name] for name in ("prompt", "reference") if name in table.column_names}
    return gathered(pa.table(columns), _first_rows(table["prompt"]))


def training_pairs(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The pairs of the window, one table an iteration, less those whose prompt is held out.

    Each iteration adds at most `max_new_pairs` pairs (a seeded sample). With `held_out` the last table has the prompts
    that training must not see.
    """
    windows, held = (tables[:-1], tables[-1]) if options["held_out"] else (tables, None)
    parts, unseen = [], 0
    for number, pairs in enumerate(windows):
        if held is not None:
            seen = pc.is_in(pairs["prompt"], held["prompt"].combine_chunks()).to_numpy()
            unseen += int(seen.sum())
            pairs = gathered(pairs, np.flatnonzero(~seen))
        quota = options["max_new_pairs"]
        if quota is not None and pairs.num_rows > quota:
            kept = np.random.default_rng(seed_of(options["seed"], "quota", number)).permutation(pairs.num_rows)[:quota]
            pairs = gathered(pairs, np.sort(kept))
        parts.append(pairs)
    joined = pa.concat_tables(parts, promote_options="default")
    return with_counts(joined, {"pairs": joined.num_rows, "promptHeldOut": unseen})


def learned_from(prepare: Prepare) -> tuple[TableRef, ...]:
    """The tables that a training's rows come from: all that it reads, but for the prompts that are held out."""
    return prepare.inputs[:-1] if prepare.options.get("held_out") else prepare.inputs


def joined_answers(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """Prompts with the answer of the old model (`before`) and of the new (`after`), both by the role `role`."""
    before, after = (table.filter(pc.field("role") == options["role"]) for table in tables)
    order = pc.sort_indices(before["prompt"]).to_numpy()
    place = pc.index_in(before["prompt"], pc.unique(after["prompt"])).to_numpy(zero_copy_only=False)[order]
    both = ~np.isnan(place)
    old = gathered(before.select(["prompt", "answer"]), order[both])
    new = gathered(after.select(["answer"]), _first_rows(after["prompt"])[place[both].astype(np.int64)])
    return pa.table({"prompt": old["prompt"], "before": old["answer"], "after": new["answer"]})


def shuffled(rows: int, seed: int) -> np.ndarray:
    """The numbers of so many rows in a run's own order: what `permutation` gives, in half the memory where four bytes do."""
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    np.random.default_rng(seed_of(seed, "draw")).shuffle(order)
    return order


def _first_rows(column: pa.ChunkedArray) -> np.ndarray:
    """Row numbers at which a value stands for the first time."""
    seen: dict[str, int] = {}
    for number, value in enumerate(column.to_pylist()):
        seen.setdefault(value, number)
    return np.fromiter(seen.values(), np.int64, len(seen))
