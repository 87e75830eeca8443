"""Whole-table functions over preferences in three folds, for PIT: what teaches to answer, to improve, and to see a gap.

A fold is drawn by the hash of the prompt with all before it, so that rows of one prompt are in one fold. None of the prompts
is held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.gather import gathered, row_numbers
from selfalign_jobs.recipes.base import Rows
from selfalign_jobs.recipes.own_tables import set_apart
from selfalign_jobs.recipes.tables import counts_of, drawn_numbers, most_drawn, with_counts
from selfalign_jobs.template import render_template

FOLDS = 3
SFT, GAP, ROUNDS = range(FOLDS)  # which is for what
NAMES = ("drafts and improvements", "the gap model", "the rounds of the improver")
ASKED = ("history", "prompt", "answers")  # the last: how many answers the conversation has of which one is taken


def fold(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The rows of the fold `fold` of those that are drawn, less those of equal answers and those whose prompt is held out.

    Held out is what is set apart of the table itself, or with `held_out` the prompts of the second table. Raises ConfigError
    when none is left.
    """
    source = tables[0]
    held = (
        tables[1].take(row_numbers(np.arange(tables[1].num_rows)))
        if options["held_out"]
        else set_apart(source, options)
    )
    drawn = source.take(row_numbers(drawn_numbers(source.num_rows, options))).select((*ASKED, "chosen", "rejected"))
    folds = [
        fold_of(options["seed"], *said) for said in zip(*(drawn[name].to_pylist() for name in ASKED[:2]), strict=True)
    ]
    rows = gathered(drawn, np.flatnonzero(np.array(folds, np.int64) == options["fold"]))
    same = pc.equal(rows["chosen"], rows["rejected"]).to_numpy() & (options["identical"] == "Drop")
    seen = pc.is_in(rows["prompt"], held["prompt"].combine_chunks()).to_numpy() & ~same
    left = gathered(rows, np.flatnonzero(~same & ~seen))
    if drawn.num_rows and not left.num_rows:
        raise ConfigError.one(
            "spec.data.preferences.url",
            f"has no pair for {NAMES[options['fold']]} among the {drawn.num_rows:,} rows drawn: pit parts them into {FOLDS} "
            f"folds by their prompts, and of this one's {rows.num_rows:,} rows {int(same.sum()):,} have equal answers and of "
            f"{int(seen.sum()):,} the prompt is held out for evaluation; give more rows, or other evaluation.prompts",
        )
    several = pc.sum(pc.greater(left["answers"], 1)).as_py() or 0
    counts = {"identical": int(same.sum()), "promptHeldOut": int(seen.sum()), "severalTurns": several}
    return with_counts(left, {"pairs": left.num_rows} | counts)


def fold_of(seed: int, history: str | None, prompt: str) -> int:
    """The fold of a prompt with what was said before it."""
    return seed_of(seed, "fold", history or "", prompt) % FOLDS


def most_of_fold(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """A fold has as many rows as another, nearly; with `drafts` each comes once for either."""
    return most_drawn(rows, options) * len(options.get("drafts", "1")) // FOLDS


def answers_taught(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches to answer: prompt → the better answer."""
    rows = fold(tables, options)
    return _with_target(rows)


def improvements_taught(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches to improve: prompt and worse answer → the better one; `user` is the improver's turn."""
    rows = fold(tables, options)
    return _with_target(rows.append_column("user", _turns(rows, "rejected", options["template"])))


def gaps_taught(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """What teaches a joint gap model: both answers, and the improver's turns about each (`chosen_user`, `rejected_user`)."""
    rows = fold(tables, options)
    for side in ("chosen", "rejected"):
        rows = rows.append_column(f"{side}_user", _turns(rows, side, options["template"]))
    return rows


def references(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """Prompts with a draft to improve, both answers of each pair in turn: the references of the first round."""
    rows = fold(tables, options)
    columns = {name: rows[name] for name in ASKED}
    both = [
        pa.table(columns | {"draft": rows[side], "drafted_by": pa.repeat(side, rows.num_rows)})
        for side in options["drafts"]
    ]
    order = np.arange(len(both) * rows.num_rows).reshape(len(both), -1).T.ravel()
    return with_counts(gathered(pa.concat_tables(both), order), counts_of(rows))


def asked_once(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The prompts of a fold with what was said before them, each once: a policy drafts answers to them."""
    rows = fold(tables, options).select(ASKED)
    first: dict[tuple[str | None, str], int] = {}
    for number, said in enumerate(zip(rows["history"].to_pylist(), rows["prompt"].to_pylist(), strict=True)):
        first.setdefault(said, number)
    return gathered(rows, np.fromiter(first.values(), np.int64, len(first)))


def _with_target(rows: pa.Table) -> pa.Table:
    """The better answer as what is to be written."""
    return with_counts(rows.rename_columns({"chosen": "target"}).drop_columns(["rejected"]), counts_of(rows))


def _turns(rows: pa.Table, side: str, template: str) -> pa.Array:
    """The improver's turn about one answer of each pair."""
    asked = zip(rows["prompt"].to_pylist(), rows[side].to_pylist(), strict=True)
    return pa.array(
        [render_template(template, {"prompt": prompt, "draft": draft}) for prompt, draft in asked], pa.string()
    )
