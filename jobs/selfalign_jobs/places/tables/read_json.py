"""JSONL, an object a line, and JSON, one array of objects. Only the named columns are looked at, the others skipped.

msgspec reads rows whose named columns are text or null, at the speed of the disk. What it leaves (numbers, which keep their
spelling; NaN, which JSON lacks and Python writes; a key that stands twice; whatever is wrong) Python's own parser reads
again, and it alone decides what a row is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Column, Piece, Unreadable, not_utf8, piece_of
from selfalign_jobs.places.tables.stream import MARK, line_blocks, unpacked

NAMES_FROM_ROWS = 100  # that are looked at to say which columns there are
ARRAY_ROWS = 50_000  # of an array that make a piece

HALF = re.compile("[\ud800-\udfff]")
NO_NAME = re.compile(r'["\\\x00-\x1f]')  # what msgspec takes in no name of a field

Cells = list[str | None]


class _Object(dict[str, Any]):
    """A JSON object, with the keys that stand in it more than once."""

    twice: frozenset[str] = frozenset()


def names(file: TableFile) -> list[str]:
    """The keys of the first rows."""
    rows = (row for _, row in _slow_rows(file)) if file.format == "jsonl" else iter(_slow_array(_whole(file)))
    return list({key: None for row in islice(rows, NAMES_FROM_ROWS) for key in row})


def read_lines(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """The rows of JSONL."""
    fast = _Fast(columns)
    for first, block in line_blocks(file.path, file.compression):
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        values = fast.lines(block, lines)
        if values is not None:
            yield piece_of(columns, values, lambda i, first=first: f"line {first + i}")  # type: ignore[misc]
            continue
        numbers, rows = [], []
        for number, line in enumerate(block.split(b"\n"), first):
            if line.strip():
                numbers.append(number)
                rows.append(fast.line(line) or _cells(columns, _slow_row(line, number), f"line {number}", line))
        yield piece_of(columns, _turned(columns, rows), lambda i, numbers=numbers: f"line {numbers[i]}")  # type: ignore[misc]


def read_array(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """The rows of a JSON array. It is held whole while it is read."""
    content = _whole(file)
    values = _Fast(columns).array(content)
    if values is None:
        slow = _slow_array(content)
        values = _turned(
            columns, [_cells(columns, row, f"row {number}", content) for number, row in enumerate(slow, 1)]
        )
    for start in range(0, len(values[0]), ARRAY_ROWS):
        part = [texts[start : start + ARRAY_ROWS] for texts in values]
        yield piece_of(columns, part, lambda i, start=start: f"row {start + i + 1}")  # type: ignore[misc]


class _Fast:
    """The fast parser for some columns. What it cannot decide is None."""

    def __init__(self, columns: Sequence[Column]) -> None:
        names = {
            column.name: f"c{number}" for number, column in enumerate(columns)
        }  # one of the file's may be asked twice
        chats = {column.name for column in columns if column.chats or column.either}
        self._odd = any(NO_NAME.search(name) for name in names)
        attributes = [(field, Any if name in chats else str | None, None) for name, field in names.items()]
        renamed = {} if self._odd else {field: name for name, field in names.items()}
        row = msgspec.defstruct("Row", attributes, rename=renamed, gc=False)
        self._row: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._array: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        self._keys = [_key(name) for name in names]
        self._columns = [(column, names[column.name]) for column in columns]

    def lines(self, block: bytes, lines: int) -> list[Cells] | None:
        """The columns of lines that are an object each."""
        values = self._values(block, self._row.decode_lines)
        return values if values is not None and len(values[0]) == lines else None

    def line(self, line: bytes) -> Cells | None:
        """The cells of one line."""
        values = self._values(line, lambda one: [self._row.decode(one)])
        return None if values is None else [texts[0] for texts in values]

    def array(self, content: bytes) -> list[Cells] | None:
        """The columns of an array."""
        return self._values(content, self._array.decode)

    def _values(self, content: bytes, decode: Callable[[bytes], list[Any]]) -> list[Cells] | None:
        if self._odd:
            return None
        try:
            rows = decode(content)
            values = [[getattr(row, field) for row in rows] for _, field in self._columns]
            for number, (column, _) in enumerate(self._columns):
                if column.chats or column.either:
                    values[number] = [column.text_of(value) for value in values[number]]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            return None
        # Of a key that stands twice it takes the last and tells nobody.
        return None if any(len(key.findall(content)) > len(rows) for key in self._keys) else values


def _key(name: str) -> re.Pattern[bytes]:
    """A key as JSON has it, its letters as they are or escaped."""
    spellings = (json.dumps(name, ensure_ascii=ascii_only).encode() for ascii_only in (True, False))
    return re.compile(rb"(?:%s)\s*:" % b"|".join(re.escape(spelling) for spelling in dict.fromkeys(spellings)))


def _turned(columns: Sequence[Column], rows: Sequence[Cells]) -> list[Cells]:
    return [[row[number] for row in rows] for number in range(len(columns))]


# --- Python's own parser ------------------------------------------------------------------------------------------------


def _slow_rows(file: TableFile) -> Iterator[tuple[int, _Object]]:
    for first, block in line_blocks(file.path, file.compression):
        for number, line in enumerate(block.split(b"\n"), first):
            if line.strip():
                yield number, _slow_row(line, number)


def _slow_row(line: bytes, number: int) -> _Object:
    """The object of a line."""
    try:
        row = _parsed(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unreadable(f"is no JSON ({_said(error)}); write one whole object a line", f"line {number}") from error
    if not isinstance(row, _Object):
        raise Unreadable(f"is {_kind(row)}, not an object; write {{COLUMN: VALUE, …}} a line", f"line {number}")
    return row


def _slow_array(content: bytes) -> list[_Object]:
    """The objects of an array."""
    try:
        rows = _parsed(content)
    except (json.JSONDecodeError, RecursionError) as error:
        if _is_lines(content):
            raise Unreadable("has JSON lines, an object a line: name it .jsonl") from error
        raise Unreadable(f"is no JSON ({_said(error)}); write one array of objects") from error
    if not isinstance(rows, list):
        raise Unreadable(f"is {_kind(rows)}, not an array of objects; write one, or .jsonl with an object a line")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, _Object):
            raise Unreadable(f"is {_kind(row)}, not an object; write {{COLUMN: VALUE, …}}", f"row {number}")
    return rows


def _cells(columns: Sequence[Column], row: _Object, at: str, content: bytes) -> Cells:
    """The text of a row's columns, each as the file spells it; `content` is what the row was read from."""
    cells: Cells = []
    for column in columns:
        if column.name in row.twice:
            raise Unreadable(f"{column.name} stands here twice; keep one", at)
        try:
            cell = column.text_of(row.get(column.name))
        except ValueError as error:
            raise Unreadable(f"{column.name} {error}", at) from error
        if half := HALF.search(cell or ""):
            raise _no_character(half[0], content, at, column.name)
        cells.append(cell)
    return cells


def _no_character(half: str, content: bytes, at: str, column: str) -> Unreadable:
    """What Python keeps and no text has: a byte that is not UTF-8, or half of a surrogate pair."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return not_utf8(ord(half) & 0xFF, at, column)
    return Unreadable(
        f"{column} has half of a surrogate pair (\\u{ord(half):04x}), which is no character; write the whole character",
        at,
    )


def _parsed(content: bytes) -> Any:
    """JSON with numbers as they are spelled."""
    return json.loads(
        content.decode("utf-8", "surrogateescape"),
        parse_int=str,
        parse_float=str,
        parse_constant=str,
        object_pairs_hook=_object,
    )


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        found.twice = frozenset(key for key in keys if keys.count(key) > 1)
    return found


def _is_lines(content: bytes) -> bool:
    """Whether the first line is an object, and another begins after it."""
    first, _, rest = content.strip().partition(b"\n")
    try:
        return isinstance(_parsed(first), _Object) and rest.lstrip().startswith(b"{")
    except (json.JSONDecodeError, RecursionError):
        return False


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, character {error.pos + 1}"
    return "nested too deeply"


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "one object"
    return "a value"  # text, a number, true, false, null


def _whole(file: TableFile) -> bytes:
    with unpacked(file.path, file.compression) as stream:
        return bytes(stream.read()).removeprefix(MARK)
