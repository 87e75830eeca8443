"""From the table of pairs to examples: token ids as generation wrote them. Nothing is tokenised here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.train.settings import Reads

if TYPE_CHECKING:
    from selfalign_jobs.train.batch import Example  # which loads torch


@dataclass(frozen=True)
class Examples:
    """Rows that are trained on, and what became of the others."""

    table: pa.Table  # of the columns that are read, list<int32>, mapped
    pairs: int  # rows of the table that was given
    dropped_overlong: int
    truncated: int
    counts: Mapping[str, int]  # of its making: rows that are not in it, by why
    emptied: int = 0  # rows that lost an optional answer: too long


def examples(pairs: pa.RecordBatchReader, settings: TrainSettings, reads: Reads, file: Path) -> Examples:
    """The examples of a table, within the bounds of the settings, read and written to `file` by chunks, for ranks to map.

    `Drop` leaves out a row whose prompt is beyond max_prompt_tokens or one of whose sequences is beyond
    max_length_tokens; an optional answer that is too long is left out alone. `Truncate` keeps the end of such a prompt,
    where the question is, and the start of the answers. Raises ConfigError when no row is left, when one has no tokens, or
    when the table carries no token ids.
    """
    missing = [name for name in reads.columns if name not in pairs.schema.names]
    if missing:
        raise ConfigError.one(
            "pairs",
            f"the table has no column {', '.join(missing)} (it has {', '.join(pairs.schema.names)}); "
            "pairs carry the token ids that generation rendered",
        )
    rows = dropped = emptied = truncated = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, pairs.schema) as writer:
        for batch in pairs:
            _refuse_empty(batch, reads, rows)
            rows += len(batch)
            overlong = _overlong(batch, settings, reads)
            if settings.overlong == "Truncate":
                truncated += int(overlong.any(axis=1).sum())
                writer.write_batch(_cut(batch, settings))
                continue
            optional = [name in reads.optional for name in reads.columns[1:]]
            gone, kept = overlong & optional, ~(overlong & np.logical_not(optional)).any(axis=1)
            dropped, emptied = dropped + int((~kept).sum()), emptied + int(gone[kept].any(axis=1).sum())
            writer.write_batch(_without(batch, gone).filter(pa.array(kept)))
    counts = counts_of(pairs)
    _refuse_none(rows, dropped, counts, settings)
    return Examples(mapped_examples(file), rows, dropped, truncated, counts, emptied)


def lengths_of(table: pa.Table) -> np.ndarray:
    """Tokens of each prompt and of its answers, (examples, 1 + answers)."""
    return np.stack([_lengths(table, name) for name in table.column_names], axis=1)


def _lengths(table: pa.Table, column: str) -> np.ndarray:
    found: np.ndarray = pc.fill_null(pc.list_value_length(table[column]), 0).to_numpy()
    return found.astype(np.int64)


def _refuse_none(rows: int, dropped: int, counts: Mapping[str, int], settings: TrainSettings) -> None:
    held_out, alike = counts.get("promptHeldOut", 0), counts.get("nearDuplicates", 0)
    if rows == 0 and alike:
        raise ConfigError.one(
            "spec.generation.filters.nearDuplicates",
            f"leaves no pair to train on: the prompts of all {alike} are too like those of earlier iterations; write a higher "
            "threshold, a larger ngram, or a higher temperature of writePrompt",
        )
    if rows == 0 and held_out:
        raise ConfigError.one(
            "spec.evaluation.prompts.url",
            f"holds the prompts of all {held_out} pairs, and training leaves out what is held out; write other prompts",
        )
    if rows == 0:
        raise ConfigError.one(
            "spec.data",
            "no pairs to train on: no record gave two answers that could be told apart; write more of what is drawn "
            "(data.*.count), a smaller judge.tieMargin or minScoreGap, or a higher temperature for respond",
        )
    if rows == dropped:
        raise ConfigError.one(
            "spec.training.maxLengthTokens",
            f"all {rows} pairs are longer than maxLengthTokens {settings.max_length_tokens} or their prompts "
            f"than maxPromptTokens {settings.max_prompt_tokens}; write higher bounds, or overlong: Truncate",
        )


def _refuse_empty(batch: pa.RecordBatch, reads: Reads, before: int) -> None:
    needed = [name for name in reads.columns if name not in reads.optional]
    empty = np.argwhere(lengths_of(pa.Table.from_batches([batch]).select(needed)) == 0)
    if len(empty):
        row, column = empty[0]
        raise ConfigError.one(
            "pairs",
            f"row {before + row} has no tokens in {needed[column]}, so there is nothing to score; "
            "remove the row, or end the answer with the model's end token",
        )


def _overlong(batch: pa.RecordBatch, settings: TrainSettings, reads: Reads) -> np.ndarray:
    """(examples, answers): whether prompt or sequence are beyond the bounds; an answer that is not there has no sequence.

    A prompt that is too long is a matter of the row, not of an optional answer.
    """
    lengths = lengths_of(pa.Table.from_batches([batch]))
    prompt, answers = lengths[:, :1], lengths[:, 1:]
    beyond = (answers > 0) & (prompt + answers > settings.max_length_tokens)
    needed = np.array([name not in reads.optional for name in reads.columns[1:]])
    found: np.ndarray = beyond | ((prompt > settings.max_prompt_tokens) & needed)
    return found


def _without(batch: pa.RecordBatch, gone: np.ndarray) -> pa.RecordBatch:
    """The batch with these of its answers, and those that are null, made empty."""
    columns = list(batch.columns)
    for number, mask in enumerate(gone.T, 1):
        if mask.any() or columns[number].null_count:
            columns[number] = _slices(_whole(columns[number]), np.where(mask, 0, np.iinfo(np.int32).max))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _cut(batch: pa.RecordBatch, settings: TrainSettings) -> pa.RecordBatch:
    prompt = np.minimum(batch["prompt_ids"].value_lengths().to_numpy(), settings.max_prompt_tokens)
    room = settings.max_length_tokens - prompt
    columns = [_slices(batch["prompt_ids"], prompt, from_end=True)]
    columns += [_slices(_whole(batch[name]), room) for name in batch.schema.names[1:]]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _whole(column: pa.ListArray) -> pa.ListArray:
    """With an empty answer for one that is null."""
    return pc.fill_null(column, pa.scalar([], column.type))


def _slices(column: pa.ListArray, most: np.ndarray, *, from_end: bool = False) -> pa.ListArray:
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

ROWS_A_CHUNK = 16_384


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
