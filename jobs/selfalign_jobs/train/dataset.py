"""From the table of pairs to examples: token ids as generation wrote them. Nothing is tokenised here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.plan import TrainSettings
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train.settings import Reads

Example = tuple[np.ndarray, Sequence[np.ndarray]]  # a prompt and its answers, token ids


@dataclass(frozen=True)
class Examples:
    """Rows that are trained on, and what became of the others."""

    table: pa.Table  # of the columns that are read, list<int32>
    pairs: int  # rows of the table that was given
    dropped_overlong: int
    truncated: int
    held_out: int  # rows that are not in it, because their prompts are held out
    emptied: int = 0  # rows that lost an optional answer: too long


def examples(pairs: pa.Table, settings: TrainSettings, reads: Reads) -> Examples:
    """The examples of a table, within the bounds of the settings.

    `Drop` leaves out a row whose prompt is beyond max_prompt_tokens or one of whose sequences is beyond
    max_length_tokens; an optional answer that is too long is left out alone. `Truncate` keeps the end of such a prompt,
    where the question is, and the start of the answers. Raises ConfigError when no row is left, when one has no tokens, or
    when the table carries no token ids.
    """
    missing = [name for name in reads.columns if name not in pairs.column_names]
    if missing:
        raise ConfigError.one(
            "pairs",
            f"the table has no column {', '.join(missing)} (it has {', '.join(pairs.column_names)}); "
            "pairs carry the token ids that generation rendered",
        )
    held_out = counts_of(pairs).get("promptHeldOut", 0)
    if pairs.num_rows == 0 and held_out:
        raise ConfigError.one(
            "spec.evaluation.prompts.url",
            f"holds the prompts of all {held_out} pairs, and training leaves out what is held out; write other prompts",
        )
    if pairs.num_rows == 0:
        raise ConfigError.one(
            "spec.data",
            "no pairs to train on: no record gave two answers that the judge told apart; "
            "write more personas (data.personas.count), a smaller judge.tieMargin, or a higher temperature for respond",
        )
    table = pairs.select(reads.columns)
    _refuse_empty(table, reads)
    if settings.overlong == "Truncate":
        count = int(_overlong(lengths_of(table), settings).any(axis=1).sum())
        cut = _truncated(table, settings)
        return Examples(cut, pairs.num_rows, dropped_overlong=0, truncated=count, held_out=held_out)
    table, emptied = _without_long_options(table, settings, reads)
    overlong = _overlong(lengths_of(table), settings).any(axis=1)
    kept = table.filter(pa.array(~overlong)) if overlong.any() else table
    if kept.num_rows == 0:
        raise ConfigError.one(
            "spec.training.maxLengthTokens",
            f"all {pairs.num_rows} pairs are longer than maxLengthTokens {settings.max_length_tokens} or their prompts "
            f"than maxPromptTokens {settings.max_prompt_tokens}; write higher bounds, or overlong: Truncate",
        )
    dropped = int(overlong.sum())
    return Examples(kept, pairs.num_rows, dropped, truncated=0, held_out=held_out, emptied=emptied)


def lengths_of(table: pa.Table) -> np.ndarray:
    """Tokens of each prompt and of its answers, (examples, 1 + answers)."""
    return np.stack([_lengths(table, name) for name in table.column_names], axis=1)


def _lengths(table: pa.Table, column: str) -> np.ndarray:
    found: np.ndarray = pc.fill_null(pc.list_value_length(table[column]), 0).to_numpy()
    return found.astype(np.int64)


def _refuse_empty(table: pa.Table, reads: Reads) -> None:
    needed = [name for name in reads.columns if name not in reads.optional]
    empty = np.argwhere(lengths_of(table.select(needed)) == 0)
    if len(empty):
        row, column = empty[0]
        raise ConfigError.one(
            "pairs",
            f"row {row} has no tokens in {needed[column]}, so there is nothing to score ({len(empty)} such in "
            f"{table.num_rows} rows); remove the row, or end the answer with the model's end token",
        )


def _overlong(lengths: np.ndarray, settings: TrainSettings) -> np.ndarray:
    """(examples, answers): whether prompt or sequence are beyond the bounds; an answer that is not there has no sequence."""
    prompt, answers = lengths[:, :1], lengths[:, 1:]
    beyond = (answers > 0) & (prompt + answers > settings.max_length_tokens)
    found: np.ndarray = beyond | (prompt > settings.max_prompt_tokens)
    return found


def _without_long_options(table: pa.Table, settings: TrainSettings, reads: Reads) -> tuple[pa.Table, int]:
    """A row is not lost because only an optional answer is too long."""
    emptied = np.zeros(table.num_rows, bool)
    for name in reads.optional:
        place = table.column_names.index(name)
        lengths = lengths_of(table.select(["prompt_ids", name]))
        long = lengths.sum(axis=1) > settings.max_length_tokens
        column = table[name]
        if long.any() or column.null_count:
            none = pa.scalar([], column.type)
            column = pc.if_else(pa.array(long & (lengths[:, 1] > 0)), none, pc.fill_null(column, none))
        emptied |= long & (lengths[:, 1] > 0)
        table = table.set_column(place, pa.field(name, column.type), column)
    return table, int(emptied.sum())


def _truncated(table: pa.Table, settings: TrainSettings) -> pa.Table:
    """Chunk by chunk, so that only one is copied at a time beside the result."""
    return pa.Table.from_batches([_cut(batch, settings) for batch in table.to_batches()], table.schema)


def _cut(batch: pa.RecordBatch, settings: TrainSettings) -> pa.RecordBatch:
    kept = [
        np.minimum(pc.list_value_length(batch["prompt_ids"]).to_numpy(zero_copy_only=False), settings.max_prompt_tokens)
    ]
    room = settings.max_length_tokens - kept[0]
    columns = [_slices(batch["prompt_ids"], kept[0], from_end=True)]
    columns += [_slices(batch[name], room, from_end=False) for name in batch.schema.names[1:]]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _slices(column: pa.ListArray, most: np.ndarray, *, from_end: bool) -> pa.ListArray:
    """At most so many of each list's values, from its end or its start."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    counts = np.minimum(np.diff(offsets), most)
    firsts = offsets[1:] - counts if from_end else offsets[:-1]
    ends = np.concatenate([[0], np.cumsum(counts)])
    taken = np.arange(ends[-1]) - np.repeat(ends[:-1] - firsts, counts)
    values = column.values.to_numpy()[taken]
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.array(values, column.type.value_type), type=column.type
    )


# --- as the ranks read them -------------------------------------------------------------------------------------------

ROWS_A_CHUNK = 65_536


def write_examples(table: pa.Table, file: Path) -> None:
    """As a file that ranks map: one copy in memory for all of a node."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=ROWS_A_CHUNK)


def mapped_examples(file: Path) -> pa.Table:
    """The table, its pages shared with whoever else maps the file."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


class TokenIds:
    """Examples of a table of token ids by row, as views into it."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = [_Column(table[name]) for name in table.column_names]

    def __getitem__(self, row: int) -> Example:
        prompt, *answers = (column[row] for column in self._columns)
        return prompt, answers


class _Column:
    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in chunks])
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._values = [chunk.values.to_numpy() for chunk in chunks]

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._ends, row, side="right"))
        offsets = self._offsets[chunk]
        place = row - int(self._ends[chunk]) + len(offsets) - 1
        found: np.ndarray = self._values[chunk][offsets[place] : offsets[place + 1]]
        return found
