"""Rows of an Arrow table by number, whatever its size.

Arrow's own `take` first joins all pieces of a column, and one of strings or lists holds 2 GiB, or 2^31 values, and no more:
a large run's texts are beyond that. Here each piece of the result is gathered from the pieces that its rows lie in.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

ROWS_A_PIECE = 8192  # of the result, at most: 2 GiB are then 256 kB a row
BYTES_A_PIECE = 64 << 20  # about: what is held a second and a third time while a piece is put together


def gathered(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """The rows of these numbers, in their order. All of them in their own order: the table itself, not copied."""
    if len(rows) == table.num_rows and bool((rows == np.arange(len(rows))).all()):
        return table
    columns = [_column(column, rows) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def row_numbers(numbers: np.ndarray) -> pa.Array:
    """Row numbers for Arrow. By buffer: pa.array would load pandas, a second that every command would pay."""
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers.astype(np.int64))])


def _column(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    chunks = column.chunks
    firsts = np.cumsum([0, *map(len, chunks)])
    size = min(ROWS_A_PIECE, 1 + BYTES_A_PIECE * len(column) // max(1, column.nbytes))
    pieces = [_piece(chunks, firsts, rows[start : start + size]) for start in range(0, len(rows), size)]
    return pa.chunked_array(pieces, column.type)


def _piece(chunks: list[pa.Array], firsts: np.ndarray, rows: np.ndarray) -> pa.Array:
    home = np.searchsorted(firsts, rows, side="right") - 1  # which chunk each row lies in
    by_chunk = np.argsort(home, kind="stable")
    bounds = np.searchsorted(home[by_chunk], np.arange(len(chunks) + 1))
    parts = [
        chunk.take(row_numbers(rows[by_chunk[low:high]] - first))
        for chunk, first, low, high in zip(chunks, firsts, bounds, bounds[1:], strict=False)
        if low < high
    ]
    joined = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    back = np.empty(len(rows), np.int64)
    back[by_chunk] = np.arange(len(rows))
    return joined if bool((np.diff(by_chunk) == 1).all()) else joined.take(row_numbers(back))
