"""The first look at every row of a source: what is missing, empty or cannot be read is refused, with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError, shown
from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Column, Unreadable
from selfalign_jobs.places.tables.read import names_of, read

MESSAGES = "messages"  # a column with conversations, read instead of prompts
SHOWN_NAMES = 20


def looked_at(field: str, url: str | None, files: Sequence[TableFile], columns: Sequence[Column]) -> Iterator[pa.Table]:
    """The rows of a source, piece by piece; the first of `columns` must be in every file, and be filled in every row.

    Raises ConfigError at `field` or its column: for a row that cannot be read at once, for empty ones at the end.
    """
    main, rows, blank, first_blank = columns[0].standard, 0, 0, ""
    lacking = dict.fromkeys((column.standard for column in columns), 0)  # how many files are without the column
    for file in files:
        rows_here, found = 0, set[str]()
        try:
            for piece in read(file, columns):
                rows_here += piece.table.num_rows
                found |= {name for name in lacking if piece.table[name].null_count < piece.table.num_rows}
                if numbers := _blank(piece.table[main]):
                    first_blank = first_blank or f"{file.path.name}, {piece.where(numbers[0])}"
                    blank += len(numbers)
                yield piece.table
        except Unreadable as error:
            raise ConfigError.one(f"{field}.url", error.of(file.path.name), url) from error
        rows += rows_here
        for column in _lacked(file, columns, found) if rows_here else ():
            lacking[column.standard] += 1
            if column.standard == main or lacking[column.standard] == len(files):
                raise _no_column(field, file, column)
    if rows == 0:
        names = _some([file.path.name for file in files])
        raise ConfigError.one(f"{field}.url", f"{names} has no rows; write the URL of a file with at least one", url)
    if blank:
        message = f"{blank} of {rows} rows have an empty {main}, the first {first_blank}; remove them"
        raise ConfigError.one(f"{field}.url", message, url)


def _lacked(file: TableFile, columns: Sequence[Column], found: set[str]) -> list[Column]:
    """The columns that a file has not. One in which something was found is there, even if its first rows lack it."""
    unseen = [column for column in columns if column.standard not in found]
    names = names_of(file) if unseen else []
    return [column for column in unseen if column.name not in names]


def _blank(column: pa.ChunkedArray) -> list[int]:
    """The rows without a text, or with white space alone. Without scalars of Python's, which load pandas."""
    filled = pc.cast(pc.binary_length(pc.utf8_trim_whitespace(column)), pa.bool_())
    filled = pc.coalesce(filled, pc.is_valid(column))
    return [] if pc.all(filled).as_py() else [number for number, good in enumerate(filled.to_pylist()) if not good]


def _no_column(field: str, file: TableFile, column: Column) -> ConfigError:
    names, given = names_of(file), MESSAGES if column.chats else column.standard
    hint = f"write columns: {{{given}: COLUMN}}"
    if given == "prompt" and MESSAGES in names:
        hint += f", or columns: {{{MESSAGES}: {MESSAGES}}} for conversations"
    for separator, said in ((";", "semicolons"), ("\t", "tabs")):
        if file.format == "csv" and any(separator in name for name in names):
            hint = f"cells are separated by {said} there; write it with commas"
    message = f"{file.path.name} has no column {column.name}; it has {_some(names)}; {hint}"
    return ConfigError.one(f"{field}.columns.{given}", message)


def _some(names: Sequence[str]) -> str:
    """Names in a message: not more, and not longer, than a person reads."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(shown(name) for name in names[:SHOWN_NAMES]) + more
