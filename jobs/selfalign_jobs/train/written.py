"""Pairs that are texts, of people's own tables, as token ids: each as the model that is trained would have written it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Train
from selfalign_jobs.flow import SetAside
from selfalign_jobs.gather import gathered
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.places.models import locate_model
from selfalign_jobs.recipes.rows import IDS, history_of
from selfalign_jobs.recipes.tables import counts_of, with_counts
from selfalign_jobs.step.context import StepContext, Stopped

SIDES = ("chosen", "rejected")
SHOWN_ROWS = 500  # about a second


def with_ids(context: StepContext, step: Train, table: pa.Table) -> pa.Table:
    """The table with the ids of prompt and answers beside their texts; one that has ids already is left as it is.

    Rows that the model cannot have written are left out, and counted. Raises ConfigError when that leaves none.
    """
    if "prompt_ids" in table.column_names:
        return table
    config = context.config
    chat = ModelChat.of(locate_model(config, step.start), config.plan.given(step.start))
    context.progress.begin("tokenise", table.num_rows, "pairs")

    def show(done: int) -> None:
        context.progress.advance(done)
        if context.stop.is_set():
            raise Stopped("stopped while pairs were tokenised; the next attempt begins there")

    return written(table, chat, show)


def written(table: pa.Table, chat: ModelChat, show: Callable[[int], None] = lambda _: None) -> pa.Table:
    """The same with the model's chat at hand; how many rows are done is shown now and then."""
    kept: list[int] = []
    ids: dict[str, list[Any]] = {name: [] for name in ("prompt_ids", *(f"{side}_ids" for side in SIDES))}
    refused = None
    for number, row in enumerate(table.to_pylist()):
        if number % SHOWN_ROWS == 0:
            show(number)
        try:
            found = _ids(row, chat)
        except SetAside as unwritten:
            refused = unwritten
            continue
        kept.append(number)
        for name, values in found.items():
            ids[name].append(values)
    if refused is not None and not kept:
        raise ConfigError.one("spec.data.preferences.url", f"has no row that the model could have written: {refused}")
    counts = counts_of(table)
    rows = gathered(table, np.array(kept, np.int64))
    for name, values in ids.items():
        rows = rows.append_column(name, pa.array(values, IDS))
    return with_counts(rows, counts | {"pairs": len(kept), "unwritten": table.num_rows - len(kept)})


def _ids(row: Mapping[str, Any], chat: ModelChat) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for side in SIDES:
        found["prompt_ids"], found[f"{side}_ids"] = chat.given(row["prompt"], row[side], history_of(row["history"]))
    return found
