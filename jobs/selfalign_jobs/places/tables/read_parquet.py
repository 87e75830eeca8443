"""Parquet: columns of text as they are; of whole numbers, exact decimals, dates and booleans, whose text is certain.

Numbers with a floating point and times have several spellings, none of which the file says: they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import PIECE_BYTES, Column, Piece, Unreadable, not_utf8

MOST_ROWS = 65_536  # of a piece
TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)
CERTAIN = (*TEXT, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_date, pa.types.is_null)


def names(file: TableFile) -> list[str]:
    """The columns of a file."""
    with file.path.open("rb") as stream:
        return list(pq.ParquetFile(stream).schema_arrow.names)


def read(file: TableFile, columns: Sequence[Column]) -> Iterator[Piece]:
    """The rows of a file; nothing but the named columns is read."""
    with file.path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as opened:
        schema, found = opened.schema_arrow, []
        for column in columns:
            if (count := schema.names.count(column.name)) > 1:
                raise Unreadable(f"has {count} columns named {column.name}; name one of them otherwise")
            if count:
                found.append(column.name)
        start = 0
        for batch in opened.iter_batches(_batch_rows(opened), columns=list(dict.fromkeys(found))):
            yield _piece(columns, batch, start)
            start += batch.num_rows


def _batch_rows(opened: pq.ParquetFile) -> int:
    """Rows that come to some MB, by what the file says of the largest of its groups."""
    groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    return max(1, min(MOST_ROWS, int(PIECE_BYTES / max(row_bytes, 1))))


def _piece(columns: Sequence[Column], batch: pa.RecordBatch, start: int) -> Piece:
    def where(i: int) -> str:
        return f"row {start + i + 1}"

    arrays = []
    for column in columns:
        if column.name not in batch.schema.names:
            arrays.append(pa.nulls(batch.num_rows, pa.string()))
            continue
        values = batch[column.name]
        if column.chats or pa.types.is_nested(values.type):
            arrays.append(_of_chats(column, values, where))
        else:
            arrays.append(_as_text(column, values, where))
    return Piece(pa.table(arrays, names=[column.standard for column in columns]), where)


def _of_chats(column: Column, values: pa.Array, where: Callable[[int], str]) -> pa.Array:
    texts = pa.lib.StringBuilder()
    for number, value in enumerate(values.to_pylist()):
        try:
            texts.append(column.text_of(value))
        except ValueError as error:
            raise Unreadable(f"{column.name} {error}", where(number)) from error
    return texts.finish()


def _as_text(column: Column, values: pa.Array, where: Callable[[int], str]) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not any(is_type(values.type) for is_type in CERTAIN):
        raise Unreadable(
            f"{column.name} has the type {values.type}, whose text is not certain (1.0 or 1?); write the column as text, "
            f"with pandas: df[{column.name!r}] = df[{column.name!r}].astype(str)",
            where(0),
        )
    if any(is_text(values.type) for is_text in TEXT):
        _check_utf8(column, values, where)
    return values.cast(pa.string())


def _check_utf8(column: Column, values: pa.Array, where: Callable[[int], str]) -> None:
    """A file may call any bytes a string."""
    try:
        values.cast(pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        for number, value in enumerate(values.cast(pa.large_binary()).to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(value[error.start], where(number), column.name) from None
