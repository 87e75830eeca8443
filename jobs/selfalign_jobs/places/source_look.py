"""The first look at every row of a source: what is missing, empty or cannot be read is refused, with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError, shown
from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Column, Piece, Unreadable
from selfalign_jobs.places.tables.read import names_of, read

MESSAGES = "messages"  # a column with conversations, read instead of prompts
SHOWN_NAMES = 20


@dataclass(frozen=True)
class Reading:
    """What is read of each file of a source."""

    columns: tuple[Column, ...]
    needed: tuple[str, ...] = ()  # columns of whose cells `shape` makes rows: each file has them
    filled: tuple[str, ...] = ()  # columns that no row may leave empty; without a shape each file has the first
    shape: Callable[[Piece], Piece] | None = None

    def pieces(self, file: TableFile) -> Iterator[Piece]:
        """The rows of a file."""
        pieces = read(file, self.columns)
        return pieces if self.shape is None else map(self.shape, pieces)


def looked_at(field: str, url: str | None, files: Sequence[TableFile], reading: Reading) -> Iterator[pa.Table]:
    """The rows of a source, piece by piece, with all columns there, and filled in every row.

    Raises ConfigError at `field` or its column: for a row that cannot be read at once, for empty ones at the end.
    """
    columns = () if reading.shape is not None else reading.columns
    rows, same, blanks = 0, 0, dict.fromkeys(reading.filled, 0)
    first_blank: dict[str, str] = {}
    lacking = dict.fromkeys((column.standard for column in columns), 0)  # how many files are without the column
    for file in files:
        rows_here, found = 0, set[str]()
        _refuse_lacking(field, file, reading)
        try:
            for piece in reading.pieces(file):
                rows_here += piece.table.num_rows
                found |= {name for name in lacking if piece.table[name].null_count < piece.table.num_rows}
                for main in blanks:
                    if numbers := _blank(piece.table[main]):
                        first_blank.setdefault(main, f"{file.path.name}, {piece.where(numbers[0])}")
                        blanks[main] += len(numbers)
                if "chosen" in reading.filled:
                    same += pc.sum(pc.equal(piece.table["chosen"], piece.table["rejected"])).as_py() or 0
                yield piece.table
        except Unreadable as error:
            raise ConfigError.one(f"{field}.url", error.of(file.path.name), url) from error
        rows += rows_here
        for column in _lacked(file, columns, found) if rows_here else ():
            lacking[column.standard] += 1
            if column.standard == columns[0].standard or lacking[column.standard] == len(files):
                raise _no_column(field, file, column)
    if rows == 0:
        names = _some([file.path.name for file in files])
        raise ConfigError.one(f"{field}.url", f"{names} has no rows; write the URL of a file with at least one", url)
    for main, blank in blanks.items():
        if blank:
            message = f"{blank} of {rows} rows have an empty {main}, the first {first_blank[main]}; remove them"
            raise ConfigError.one(f"{field}.url", message, url)
    if same == rows:
        message = (
            f"chosen equals rejected in all {rows:,} rows, so that nothing is preferred; name the columns of both answers in "
            "columns, or, where conversations part later, write turn: Last"
        )
        raise ConfigError.one(f"{field}.url", message, url)


def _refuse_lacking(field: str, file: TableFile, reading: Reading) -> None:
    """A dialogue without one of its parts would be refused row by row, in words about rows."""
    if reading.needed:
        names = names_of(file)
        for column in reading.columns:
            if column.standard in reading.needed and column.name not in names and names:
                raise _no_column(field, file, column)


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
    if given in ("prompt", "response") and MESSAGES in names:
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
