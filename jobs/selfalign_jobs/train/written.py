"""Texts of a training's table as token ids: each as the model that is trained would have written it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import SourceRef, Train
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.flow import SetAside
from selfalign_jobs.gather import gathered
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.places.models import locate_model
from selfalign_jobs.recipes.few_shot import turns
from selfalign_jobs.recipes.rows import IDS, history_of
from selfalign_jobs.recipes.tables import counts_of, with_counts
from selfalign_jobs.step.context import StepContext, Stopped
from selfalign_jobs.train.settings import GAP_PAIRS

PAIR, TARGET = ("chosen", "rejected"), ("target",)
GAPS = tuple(f"{first}_{second}" for first, second in GAP_PAIRS)
ANSWERS = {"preference": PAIR, "sft": TARGET, "reward": PAIR, "gap": GAPS}  # by objective
SHOWN_ROWS = 500  # about a second


def with_ids(context: StepContext, step: Train, table: pa.Table) -> pa.Table:
    """The table with the ids of prompt and answers beside their texts; one that has ids already is left as it is.

    Rows that the model cannot have written are left out, and counted. Raises ConfigError when that leaves none.
    """
    if "prompt_ids" in table.column_names:
        return table
    config = context.config
    chat = ModelChat.of(locate_model(config, step.start), config.plan.given(step.start))
    context.progress.begin("tokenise", table.num_rows, step.rows)

    def show(done: int) -> None:
        context.progress.advance(done)
        if context.stop.is_set():
            raise Stopped(f"stopped while {step.rows} were tokenised; the next attempt begins there")

    return ids_by(chat, step, table, show)


def ids_by(chat: ModelChat, step: Train, table: pa.Table, show: Callable[[int], None] = lambda _: None) -> pa.Table:
    """The same with the model's chat at hand; how many rows are done is shown now and then."""
    fit = Fit(step.data.options["turn"], step.settings) if "shots" in table.column_names else None
    return written(table, chat, ANSWERS[step.objective], show, fit, _given(step))


@dataclass(frozen=True)
class Fit:
    """How turns with shots before the question are made to fit: as many of the last shots as the bounds have room for."""

    template: str
    settings: TrainSettings

    def ids(self, row: Mapping[str, Any], chat: ModelChat, answers: tuple[str, ...]) -> dict[str, Any]:
        """The ids of a row, and how many shots it shows."""
        most, found = self.settings, dict[str, Any]()
        for dropped, user in enumerate(turns(self.template, row["shots"], row["prompt"])):
            found = _ids({**row, "user": user}, chat, answers) | {"shots_shown": len(row["shots"]) - dropped}
            prompt, answer = len(found["prompt_ids"]), max(len(found[f"{name}_ids"]) for name in answers)
            if prompt <= most.max_prompt_tokens and prompt + answer <= most.max_length_tokens:
                break
        return found

    def finished(self, rows: pa.Table) -> pa.Table:
        """The rows with the number of shots that they show in the place of the shots; those that lost some are counted."""
        shown, place = rows["shots_shown"], rows.column_names.index("shots")
        shortened = pc.sum(pc.less(shown, pc.list_value_length(rows["shots"]))).as_py() or 0
        rows = with_counts(rows, counts_of(rows) | {"shortened": shortened})
        return rows.drop_columns(["shots_shown"]).set_column(place, "shots", shown)


def _given(step: Train) -> str:
    """The table of the user's whose rows they are."""
    return next((ref.name for ref in step.data.inputs if isinstance(ref, SourceRef)), "preferences")


def written(
    table: pa.Table,
    chat: ModelChat,
    answers: tuple[str, ...],
    show: Callable[[int], None] = lambda _: None,
    fit: Fit | None = None,
    given: str = "preferences",
) -> pa.Table:
    """The rows with the ids of prompt and answers of these names.

    The user's turn is `user`, in a table that has it, else `prompt`; before it stands `history`. `given` is the table of the
    user's that the rows are of.
    """
    columns = [("row", pa.int64()), ("prompt_ids", IDS), *((f"{name}_ids", IDS) for name in answers)]
    made_of = pa.schema([*columns, *([] if fit is None else [("shots_shown", pa.int32())])])
    ids = _ids if fit is None else fit.ids
    parts, done, refused = [made_of.empty_table()], 0, None
    for batch in table.to_batches(max_chunksize=SHOWN_ROWS):  # only so many rows' ids are numbers of Python's at once
        show(done)
        made: list[dict[str, Any]] = []
        for number, row in enumerate(batch.to_pylist(), done):
            try:
                made.append({"row": number} | ids(row, chat, answers))
            except SetAside as unwritten:
                refused = unwritten
        parts.append(pa.Table.from_pylist(made, made_of))
        done += len(batch)
    found = pa.concat_tables(parts)
    if refused is not None and not found.num_rows:
        raise ConfigError.one(f"spec.data.{given}.url", f"has no row that the model could have written: {refused}")
    rows = gathered(table, found["row"].to_numpy())
    for name in found.column_names[1:]:
        rows = rows.append_column(name, found[name])
    counts = counts_of(table) | {"pairs": found.num_rows, "unwritten": table.num_rows - found.num_rows}
    rows = with_counts(rows, counts)
    return rows if fit is None else fit.finished(rows)


def _ids(row: Mapping[str, Any], chat: ModelChat, answers: tuple[str, ...]) -> dict[str, Any]:
    if answers == GAPS:
        return _gaps(row, chat)
    found: dict[str, Any] = {}
    user, history = row.get("user") or row["prompt"], history_of(row.get("history"))
    for name in answers:
        found["prompt_ids"], found[f"{name}_ids"] = chat.given(user, row[name], history)
    return found


def _gaps(row: Mapping[str, Any], chat: ModelChat) -> dict[str, Any]:
    """Each of two answers as an improvement of each: what they begin with is the prompt, of which attention is shared.

    The improver's turns about either are `chosen_user` and `rejected_user`.
    """
    history = history_of(row.get("history"))
    whole: dict[str, list[int]] = {}
    for first, second in GAP_PAIRS:
        prompt_ids, ids = chat.given(row[f"{second}_user"], row[first], history)
        whole[f"{first}_{second}_ids"] = [*prompt_ids, *ids]
    tokens = zip(*whole.values(), strict=False)
    last = min(map(len, whole.values())) - 1  # of equal answers too, something is left to read a reward of
    shared = next((place for place, each in enumerate(tokens) if len({*each}) > 1), last)
    found = {name: ids[shared:] for name, ids in whole.items()}
    return {"prompt_ids": next(iter(whole.values()))[:shared]} | found
