"""Whole-table functions that recipes share (`Prepare.fn`): pure, Arrow in, Arrow out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Prepare, TableRef
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import PrepareDef, Rows
from selfalign_jobs.recipes.near_duplicates import near_duplicates

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


def most_drawn(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """Rows of the first table's, as `draw` takes them."""
    return rows_drawn(rows[0], options)


DRAW = PrepareDef(draw, most=most_drawn, takes_rows=True)


def as_made(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:  # noqa: ARG001
    """The rows of a table, for the next model."""
    (table,) = tables
    return table


AS_MADE = PrepareDef(as_made)


def questions(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:  # noqa: ARG001
    """The distinct prompts of a table, in its order, with their reference answers where there are any."""
    (table,) = tables
    columns = {name: table[name] for name in ("prompt", "reference") if name in table.column_names}
    return gathered(pa.table(columns), first_rows(table["prompt"]))


QUESTIONS = PrepareDef(questions)


def training_pairs(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The pairs of the window, one table an iteration, less those whose prompt is held out or a near duplicate.

    Each iteration adds at most `max_new_pairs` pairs (a seeded sample). With `held_out` the last table has the prompts
    that training must not see. With `near_duplicates` the first `earlier` tables are those of iterations before the
    window: a prompt that is too like one before it, of any of them, is left out. `vectors` tables of the prompts' vectors
    stand after those of pairs.
    """
    given, held = (tables[:-1], tables[-1]) if options["held_out"] else (tables, None)
    count = len(given) - options.get("vectors", 0)
    given, vectors = given[:count], given[count:]
    seen = [_not_held_out(pairs, held) for pairs in given]
    rule, earlier = options.get("near_duplicates"), options.get("earlier", 0)
    windows = (seen if rule is None else _not_near(seen, rule, vectors))[earlier:]
    unseen, alike = (
        sum(pairs.num_rows for pairs in before) - sum(pairs.num_rows for pairs in after)
        for before, after in ((given[earlier:], seen[earlier:]), (seen[earlier:], windows))
    )
    joined = pa.concat_tables(
        [_sampled(pairs, number, options) for number, pairs in enumerate(windows)], promote_options="default"
    )
    counts = {"pairs": joined.num_rows, "promptHeldOut": unseen}
    return with_counts(joined, counts if rule is None else counts | {"nearDuplicates": alike})


def _not_held_out(pairs: pa.Table, held: pa.Table | None) -> pa.Table:
    """The pairs whose prompt training may see."""
    if held is None:
        return pairs
    seen = pc.is_in(pairs["prompt"], held["prompt"].combine_chunks()).to_numpy()
    return gathered(pairs, np.flatnonzero(~seen))


def _not_near(tables: Sequence[pa.Table], rule: Mapping[str, Json], vectors: Sequence[pa.Table] = ()) -> list[pa.Table]:
    """The pairs whose prompt is no near duplicate of one before it, in its table or in those before."""
    prompts = pa.chunked_array([chunk for table in tables for chunk in table["prompt"].chunks], pa.string())
    like = near_duplicates(prompts.to_pylist(), rule, vectors_of(prompts, vectors) if vectors else None)
    ends = np.cumsum([table.num_rows for table in tables])
    return [
        gathered(table, np.flatnonzero(like[end - table.num_rows : end] < 0))
        for table, end in zip(tables, ends, strict=True)
    ]


def vectors_of(prompts: pa.ChunkedArray, tables: Sequence[pa.Table]) -> npt.NDArray[np.float32]:
    """The vector of each prompt, a row each."""
    found = pa.concat_tables(table.select(["prompt", "vector"]) for table in tables)
    places = pc.index_in(prompts, found["prompt"].combine_chunks()).to_numpy()
    rows = found["vector"].combine_chunks()
    width = len(rows[0]) if len(rows) else 0
    vectors: npt.NDArray[np.float32] = rows.flatten().to_numpy().reshape(-1, width)[places]
    return vectors


def _sampled(pairs: pa.Table, number: int, options: Mapping[str, Json]) -> pa.Table:
    """At most the quota of an iteration."""
    quota = options["max_new_pairs"]
    if quota is None or pairs.num_rows <= quota:
        return pairs
    kept = np.random.default_rng(seed_of(options["seed"], "quota", number)).permutation(pairs.num_rows)[:quota]
    return gathered(pairs, np.sort(kept))


def targets_of_pairs(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The chosen answers of the pairs that `training_pairs` takes, as targets."""
    pairs = training_pairs(tables, options)
    return with_counts(pa.table({"prompt": pairs["prompt"], "target": pairs["chosen"]}), counts_of(pairs))


def learned_from(prepare: Prepare) -> tuple[TableRef, ...]:
    """The tables that a training's rows come from: without prompts that are held out, and what is only compared with."""
    options = prepare.options
    last = len(prepare.inputs) - bool(options.get("held_out")) - options.get("vectors", 0)
    return prepare.inputs[options.get("earlier", 0) : last]


def joined_answers(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """Prompts with the answer of the old model (`before`) and of the new (`after`), both by the role `role`."""
    before, after = (_answers_by(options["role"], table) for table in tables)
    order = pc.sort_indices(before["prompt"]).to_numpy()
    place = pc.index_in(before["prompt"], pc.unique(after["prompt"])).to_numpy(zero_copy_only=False)[order]
    both = ~np.isnan(place)
    old = gathered(before.select(["prompt", "answer"]), order[both])
    new = gathered(after.select(["answer"]), first_rows(after["prompt"])[place[both].astype(np.int64)])
    return pa.table({"prompt": old["prompt"], "before": old["answer"], "after": new["answer"]})


def _answers_by(role: str, table: pa.Table) -> pa.Table:
    """The answers of a role; of a file all that there are, of a prompt the first."""
    if "role" in table.column_names:
        return table.filter(pc.field("role") == role)
    answered = table.filter(pc.is_valid(table["response"]))
    found = gathered(answered, first_rows(answered["prompt"]))
    return pa.table({"prompt": found["prompt"], "answer": found["response"]})


JOINED_ANSWERS = PrepareDef(joined_answers, most=lambda rows, _: min(rows))


def shuffled(rows: int, seed: int) -> np.ndarray:
    """The numbers of so many rows in a run's own order: what `permutation` gives, in half the memory where four bytes do."""
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    np.random.default_rng(seed_of(seed, "draw")).shuffle(order)
    return order


def first_rows(column: pa.ChunkedArray) -> np.ndarray:
    """Row numbers at which a value stands for the first time."""
    seen: dict[str, int] = {}
    for number, value in enumerate(column.to_pylist()):
        seen.setdefault(value, number)
    return np.fromiter(seen.values(), np.int64, len(seen))
