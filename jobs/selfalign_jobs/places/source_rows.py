"""The rows of a source: counted, taken by number, and held only while they are few.

A file may be larger than memory. What an iteration uses of it is drawn by number, so a source is read once to look at
every row and to count them, and once more for those that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.gather import gathered, row_numbers

HELD_BYTES = 128 << 20  # of columns that are kept after the first reading


class SourceRows:
    """Rows of a source. `again` reads them anew; `first` reads them for the first time, and may raise at any row."""

    def __init__(self, again: Callable[[], Iterator[pa.Table]], first: Iterator[pa.Table] | None = None) -> None:
        self._again = again
        self._held: pa.Table | None = None
        self.longest = 0  # bytes of the longest text
        self.num_rows = self._read_first(again() if first is None else first)

    def _read_first(self, pieces: Iterator[pa.Table]) -> int:
        held: list[pa.Table] = []
        rows = size = 0
        for piece in pieces:
            rows, size = rows + piece.num_rows, size + piece.nbytes
            held.append(piece)
            texts = [column for column in piece.columns if pa.types.is_string(column.type)]
            self.longest = max(self.longest, *(pc.max(pc.binary_length(text)).as_py() or 0 for text in texts))
            if size > HELD_BYTES:
                held = []
            self._none = piece.slice(0, 0)
        if size <= HELD_BYTES:
            self._held = pa.concat_tables(held)
        return rows

    def read(self) -> pa.Table:
        """All rows, held."""
        return self._held if self._held is not None else pa.concat_tables(self._again())

    def take(self, numbers: pa.Array) -> pa.Table:
        """The rows of these numbers, in their order."""
        if self._held is not None:
            return self._held.take(numbers)
        wanted = np.frombuffer(numbers.buffers()[1], np.int64)[numbers.offset :][: len(numbers)]  # without pandas
        order = np.argsort(wanted, kind="stable")
        ascending, parts, start = wanted[order], [], 0
        for piece in self._again():
            low, high = np.searchsorted(ascending, (start, start + piece.num_rows))
            if low < high:
                parts.append(piece.take(row_numbers(ascending[low:high] - start)))
            start += piece.num_rows
        if start != self.num_rows:
            raise RuntimeError(
                f"the source has {start} rows and had {self.num_rows} a moment ago; it is being written to"
            )
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return gathered(pa.concat_tables(parts), back)

    @property
    def counted(self) -> Counted:
        """The same rows for whoever only checks how many there are."""
        return Counted(self.num_rows, self._none)


class Counted:
    """Rows that are known by their number only: what is taken of them is empty."""

    def __init__(self, num_rows: int, none: pa.Table) -> None:
        self.num_rows = num_rows
        self._none = none

    def take(self, numbers: pa.Array) -> pa.Table:  # noqa: ARG002
        """A table without rows."""
        return self._none
