"""The bytes of a file, unpacked, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from selfalign_jobs.places.tables.piece import PIECE_BYTES, Unreadable

MARK = b"\xef\xbb\xbf"  # the byte order mark that Windows puts before UTF-8


@contextmanager
def unpacked(file: Path, compression: str | None) -> Iterator[pa.NativeFile]:
    """A file's content as a stream. Opened by Python: in a C locale Arrow finds no path with an umlaut."""
    with file.open("rb") as opened, pa.input_stream(opened, compression=compression, buffer_size=PIECE_BYTES) as stream:
        yield stream


@contextmanager
def undamaged() -> Iterator[None]:
    """What unpacking and Parquet say of a file's content, as Unreadable; an error of the machine stays what it is."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Unreadable(f"is cut short or damaged ({error}); fetch or write it again") from error


def line_blocks(file: Path, compression: str | None) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file, some MB at a time, each with the number of its first line (from 1); no byte order mark."""
    number, rest = 1, list[bytes]()
    with unpacked(file, compression) as stream:
        while block := stream.read(PIECE_BYTES):
            head, newline, tail = block.rpartition(b"\n")
            if newline:
                lines = _unmarked(number, b"".join([*rest, head, newline]))
                yield number, lines
                number, rest = number + lines.count(b"\n"), [tail]
            else:
                rest.append(block)
    if last := b"".join(rest):
        yield number, _unmarked(number, last)


def _unmarked(number: int, lines: bytes) -> bytes:
    return lines.removeprefix(MARK) if number == 1 else lines
