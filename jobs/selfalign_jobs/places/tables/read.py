"""A file's rows, by its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from selfalign_jobs.places.tables import read_csv, read_json, read_parquet, read_text
from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Column, Piece, Unreadable
from selfalign_jobs.places.tables.stream import undamaged

READERS: Mapping[str, Callable[[TableFile, Sequence[Column]], Iterator[Piece]]] = {
    "parquet": read_parquet.read,
    "jsonl": read_json.read_lines,
    "json": read_json.read_array,
    "csv": read_csv.read,
    "text": read_text.read,
}
NAMES: Mapping[str, Callable[[TableFile], list[str]]] = {
    "parquet": read_parquet.names,
    "jsonl": read_json.names,
    "json": read_json.names,
    "csv": read_csv.names,
    "text": read_text.names,
}
TEXT_ALONE = ("csv", "text")


def read(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """A file's rows in order, some MB at a time: the named columns, null where the file has none of that name.

    Raises Unreadable for what is not what the file's name says, and for a value that is no text.
    """
    if file.format in TEXT_ALONE and any(column.chats for column in columns):
        raise Unreadable("holds text alone, and columns.messages names conversations; write them as JSONL or Parquet")
    with undamaged():
        yield from READERS[file.format](file, columns)


def names_of(file: TableFile) -> list[str]:
    """The columns that a file has (of JSON: that its first rows have)."""
    return NAMES[file.format](file)
