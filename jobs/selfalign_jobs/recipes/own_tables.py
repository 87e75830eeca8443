"""Whole-table functions over tables that people have: what is set apart, what is asked, which pairs are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Prepare, SourceRef, TableRef
from selfalign_api.plan_values import Json
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import PrepareDef, Rows
from selfalign_jobs.recipes.evaluation import HELD_OUT
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import drawn_numbers, most_drawn, questions, shuffled, with_counts

HELD = SourceRef(name="evaluation")

# --- what plans say of them -----------------------------------------------------------------------------------------------


def draw_options(method: Method, kind: str, k: int) -> dict[str, Any]:
    """What iteration k draws of the table `kind`, after the rows set apart for evaluation."""
    source = method.data[kind]
    apart = 0 if method.evaluation.prompts_given or method.evaluation.when == "Never" else HELD_OUT
    fresh = source.draw == "Fresh"
    return {
        "seed": method.seed,
        "apart": apart,
        "part": k - 1 if fresh else 0,
        "parts": method.iterations if fresh else 1,
        "count": source.count,
        "blank": False,
    }


def asked(method: Method, kind: str) -> Prepare:
    """The held-out prompts: the user's, or those of rows of the table `kind` that are set apart."""
    if method.evaluation.prompts_given:
        return Prepare(fn="questions", inputs=(HELD,))
    return Prepare(fn="apart-questions", inputs=(SourceRef(name=kind),), options=draw_options(method, kind, 1))


def held_out_table(method: Method, answered: TableRef) -> TableRef | None:
    """The table with the prompts that training must not see: the user's, or those `answered` by the initial model."""
    if method.evaluation.when == "Never":
        return None
    return HELD if method.evaluation.prompts_given else answered


def given_pairs(method: Method, k: int) -> Prepare:
    """The pairs of the user's own that iteration k is trained on, none of whose prompts is held out."""
    held = method.evaluation.prompts_given and method.evaluation.when != "Never"
    fresh = method.data["preferences"].draw == "Fresh"
    options = draw_options(method, "preferences", k) | {
        "window": [i - 1 for i in method.iteration.window_of(k)] if fresh else [0],
        "held_out": held,
        "identical": method.filters.identical,
        "max_new_pairs": method.iteration.max_new_pairs,
    }
    own = SourceRef(name="preferences")
    return Prepare(fn="own-pairs", inputs=(own, HELD) if held else (own,), options=options)


# --- the functions --------------------------------------------------------------------------------------------------------


def own_pairs(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The pairs of the iterations `window`, less those of equal answers and those whose prompt is held out.

    Held out is what is set apart of the table itself, or with `held_out` the prompts of the second table. An iteration adds
    at most `max_new_pairs`. Raises ConfigError when nothing is left of the rows that are drawn.
    """
    source = tables[0]
    held = _all(tables[1]) if options["held_out"] else set_apart(source, options)
    parts, counts = [], dict.fromkeys(("identical", "promptHeldOut", "severalTurns"), 0)
    seen: set[int] = set()
    for part in options["window"]:
        numbers = [n for n in drawn_numbers(source.num_rows, {**options, "part": part}).tolist() if n not in seen]
        seen.update(numbers)
        rows = source.take(row_numbers(np.array(numbers, np.int64)))
        same = pc.equal(rows["chosen"], rows["rejected"]).to_numpy() & (options["identical"] == "Drop")
        unseen = pc.is_in(rows["prompt"], held["prompt"].combine_chunks()).to_numpy() & ~same
        rows = gathered(rows, np.flatnonzero(~same & ~unseen)[: options["max_new_pairs"]])
        counts["identical"] += int(same.sum())
        counts["promptHeldOut"] += int(unseen.sum())
        counts["severalTurns"] += pc.sum(pc.greater(rows["answers"], 1)).as_py() or 0
        parts.append(rows)
    pairs = pa.concat_tables(parts)
    if seen and pairs.num_rows == 0:
        raise ConfigError.one(
            "spec.data.preferences.url",
            f"has no pair to train on among the {len(seen):,} rows drawn: {counts['identical']:,} have equal answers, of "
            f"{counts['promptHeldOut']:,} the prompt is held out for evaluation; give other rows, or other evaluation.prompts",
        )
    return with_counts(pairs, {"pairs": pairs.num_rows} | counts)


def most_own_pairs(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """The rows of so many parts."""
    return most_drawn(rows, options) * len(options["window"])


OWN_PAIRS = PrepareDef(own_pairs, most=most_own_pairs, takes_rows=True, looks=True)


def apart_questions(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The distinct prompts that are set apart, of rows that begin a conversation: an evaluation asks one turn.

    Raises ConfigError without any.
    """
    (source,) = tables
    rows = set_apart(source, options)
    asked = rows.filter(pc.is_null(rows["history"])) if "history" in rows.column_names else rows
    if rows.num_rows and asked.num_rows == 0:
        raise ConfigError.one(
            "spec.evaluation.prompts",
            f"the {rows.num_rows} rows that are set apart for evaluation all go on with a conversation, and an evaluation "
            "asks one turn; write evaluation.prompts: {url: URL}, or evaluation: {when: Never}",
        )
    return questions((asked,), {})


APART_QUESTIONS = PrepareDef(
    apart_questions, most=lambda rows, options: min(rows[0], options["apart"]), takes_rows=True, looks=True
)


def set_apart(source: Rows, options: Mapping[str, Json]) -> pa.Table:
    """The rows that are set apart for evaluation."""
    return source.take(row_numbers(shuffled(source.num_rows, options["seed"])[: options["apart"]]))


def _all(rows: Rows) -> pa.Table:
    return rows.take(row_numbers(np.arange(rows.num_rows)))
