"""CSV as RFC 4180 has it: cells between commas, in quotes where they hold commas, quotes (doubled) or line breaks."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import PIECE_BYTES, Column, Piece, Unreadable, holds_nul, piece_of
from selfalign_jobs.places.tables.stream import unpacked

csv.field_size_limit(sys.maxsize)  # a cell may be of any length


def names(file: TableFile) -> list[str]:
    """The cells of the first row."""
    with unpacked(file.path, file.compression) as stream:
        return next(_rows(stream), (1, []))[1]


def read(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """The rows of a file, as they stand there: cells that are not named are passed over."""
    with unpacked(file.path, file.compression) as stream:
        rows = _rows(stream)
        _, header = next(rows, (1, []))
        places = [_place(header, column.name) for column in columns]
        lines: list[int] = []
        values: list[list[str | None]] = [[] for _ in columns]
        size = 0
        for line, row in rows:
            if len(row) != len(header):
                raise Unreadable(
                    f"the row has {len(row)} cells and the first row {len(header)}; write cells that hold commas, quotes or "
                    "line breaks in quotes, and quotes inside them twice",
                    f"line {line}",
                )
            lines.append(line)
            for column, place, texts in zip(columns, places, values, strict=True):
                cell = None if place is None else row[place]
                if cell is not None and "\0" in cell:
                    raise holds_nul(f"line {line}", column.name)
                texts.append(cell)
                size += len(cell or "")
            if size + 64 * len(lines) > PIECE_BYTES:
                yield _piece(columns, values, lines)
                lines, values, size = [], [[] for _ in columns], 0
        yield _piece(columns, values, lines)


def _piece(columns: Sequence[Column], values: Sequence[Sequence[str | None]], lines: Sequence[int]) -> Piece:
    return piece_of(columns, values, lambda i: f"line {lines[i]}")


def _rows(stream: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each begins in; blank lines are passed over. Bytes that are no UTF-8 stay as surrogates."""
    text = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(_in_our_words(str(error)), f"line {line}") from error


def _in_our_words(said: str) -> str:
    if "unexpected end" in said:
        return "a quote is opened here and never closed; the file is cut short, or write quotes inside a cell twice"
    return 'text follows a closing quote; write a quote inside a cell twice ("")'


def _place(header: Sequence[str], name: str) -> int | None:
    if header.count(name) > 1:
        raise Unreadable(f"{header.count(name)} columns are named {name}; name one of them otherwise", "line 1")
    return header.index(name) if name in header else None
