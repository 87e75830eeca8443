"""Text: a row a line, in the column `text`. Lines end with LF or CR LF and nothing else; blank ones are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Column, Piece, holds_nul, not_utf8, piece_of
from selfalign_jobs.places.tables.stream import line_blocks

COLUMN = "text"


def names(file: TableFile) -> list[str]:  # noqa: ARG001
    """The columns of a text."""
    return [COLUMN]


def read(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """The lines of a file."""
    for first, block in line_blocks(file.path, file.compression):
        lines = [line.removesuffix("\r") for line in _decoded(first, block).split("\n")]
        rows = [(number, line) for number, line in enumerate(lines, first) if line and not line.isspace()]
        texts = [line for _, line in rows]
        nothing = [None] * len(texts)
        values = [texts if column.name == COLUMN else nothing for column in columns]
        yield piece_of(columns, values, lambda i, rows=rows: f"line {rows[i][0]}")  # type: ignore[misc]


def _decoded(first: int, block: bytes) -> str:
    if (at := block.find(b"\0")) >= 0:
        line = first + block.count(b"\n", 0, at)
        raise holds_nul(f"line {line}")
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + block.count(b"\n", 0, error.start)
        raise not_utf8(block[error.start], f"line {line}") from None
