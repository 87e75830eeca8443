"""What every reader takes and gives: named columns, pieces of a table with places in the file, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

PIECE_BYTES = 8 << 20  # of a file, or of text, that are held at a time; a row is never cut


class Unreadable(Exception):
    """A file that cannot be read as it is named: which row of it, and what to write instead.

    `words` go on a sentence that begins with the file's name, or stand after `at` (`line 3`, `row 7`).
    """

    def __init__(self, words: str, at: str | None = None) -> None:
        self.words, self.at = words, at
        super().__init__(words)

    def of(self, file: str) -> str:
        """The sentence about a file."""
        return f"{file} {self.words}" if self.at is None else f"{file}, {self.at}: {self.words}"


@dataclass(frozen=True)
class Column:
    """A column that is read: its name in the file, and what it is called from here on.

    `text_of` makes text of a value as JSON and Parquet have them; ValueError says what it is instead. `chats` is for a
    column that holds conversations only, so that its values are not expected to be text; `either` for one that may.
    """

    name: str
    standard: str
    text_of: Callable[[object], str | None]
    chats: bool = False
    either: bool = False


@dataclass(frozen=True)
class Piece:
    """Rows that follow each other in a file, with standard names; `where` says where row i of them stands."""

    table: pa.Table
    where: Callable[[int], str]


def piece_of(columns: Sequence[Column], values: Sequence[Sequence[str | None]], where: Callable[[int], str]) -> Piece:
    """A piece of Python strings. Raises Unreadable for bytes that are no UTF-8 (as `surrogateescape` leaves them)."""
    arrays = [_array(column, texts, where) for column, texts in zip(columns, values, strict=True)]
    return Piece(pa.table(arrays, names=[column.standard for column in columns]), where)


def _array(column: Column, texts: Sequence[str | None], where: Callable[[int], str]) -> pa.Array:
    """By a builder: pa.array would load pandas, a second that every command would pay."""
    builder = pa.lib.StringBuilder()
    try:
        builder.append_values(texts)
    except UnicodeEncodeError:
        number, char = next(
            (number, char) for number, text in enumerate(texts) for char in text or "" if "\ud800" <= char <= "\udfff"
        )
        raise not_utf8(ord(char) & 0xFF, where(number), column.name) from None
    return builder.finish()


def not_utf8(byte: int, at: str, column: str | None = None) -> Unreadable:
    """Bytes that are no UTF-8."""
    what = f"{column} has" if column else "there is"
    return Unreadable(
        f"{what} a byte (0x{byte:02X}) that is not UTF-8; save the file as UTF-8 (of Windows: iconv -f cp1252 -t UTF-8)",
        at,
    )


def holds_nul(at: str | None, column: str | None = None) -> Unreadable:
    """A file with bytes of zero, which no text has."""
    words = "has NUL bytes, so it is UTF-16, no text, or damaged; save it as UTF-8"
    return Unreadable(f"{column} {words}" if column else words, at)
