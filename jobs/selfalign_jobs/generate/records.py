"""Records: what became of one row. Their ids, and the table that a part file keeps of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.flow import Row
from selfalign_jobs.gather import gathered

Status = Literal["rows", "dropped", "set-aside"]

LEDGER = (
    pa.field("_record", pa.string()),  # id: hash of step digest, table, row number and content
    pa.field("_source", pa.int64()),  # row number in the prepared table
    pa.field("_status", pa.string()),  # rows, dropped (the method wants none), set-aside (something went wrong)
    pa.field("_reason", pa.string()),  # why there are no rows; null where there are some
    pa.field("_detail", pa.string()),
)
DETAIL_CHARACTERS = 500

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode


@dataclass(slots=True)
class Record:
    """One row's end: the rows that its flow returned, or why there are none and what was known by then.

    `lease` is what its row was handed out under; `tokens` counts prompt and answer tokens by role.
    """

    id: str
    source: int
    lease: int
    status: Status
    reason: str | None = None
    detail: str | None = None
    rows: Sequence[Row] = ()
    tokens: dict[str, list[int]] = field(default_factory=dict)  # role -> [in, out]


def record_id(step_digest: str, table: str, source: int, row: Row) -> str:
    """128 bits, in hex, of the step's digest, the table made, the row's number and its content."""
    text = f"{step_digest}\x1f{table}\x1f{source}\x1f{_encode(row)}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class PreparedRows:
    """The rows that become the records of one table, by number."""

    def __init__(self, table: pa.Table, out: str, step_digest: str) -> None:
        self.out = out
        self._table = table
        self._step_digest = step_digest

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, sources: Sequence[int]) -> list[Row]:
        """Rows by number."""
        in_one_piece = list(sources) == list(range(sources[0], sources[0] + len(sources)))  # as most units are
        table = (
            self._table.slice(sources[0], len(sources)) if in_one_piece else gathered(self._table, np.array(sources))
        )
        found: list[Row] = table.to_pylist()
        return found

    def ids(self, sources: Sequence[int]) -> list[str]:
        """The record ids of rows by number."""
        return [self.id(source, row) for source, row in zip(sources, self.rows(sources), strict=True)]

    def id(self, source: int, row: Row) -> str:
        """The record id of a row."""
        return record_id(self._step_digest, self.out, source, row)


def ledger_schema(schema: pa.Schema) -> pa.Schema:
    """A flow's schema with the ledger's columns before it."""
    return pa.schema([*LEDGER, *schema])


def to_table(records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    """Records as a table: one line a row; a record without rows has one line, with what was known of it.

    Raises KeyError for a column that the flow's schema lacks.
    """
    of_line = [record for record in records for _ in (record.rows or ({},))]
    rows: list[Row] = [row for record in records for row in (record.rows or ({},))]
    names = set(schema.names)
    for row in rows:
        if not row.keys() <= names:
            raise KeyError(
                f"a flow returned {', '.join(sorted(row.keys() - names))}; its schema has {', '.join(schema.names)}"
            )
    columns: dict[str, Any] = {
        "_record": [record.id for record in of_line],
        "_source": [record.source for record in of_line],
        "_status": [record.status for record in of_line],
        "_reason": [record.reason for record in of_line],
        "_detail": [record.detail for record in of_line],
    }
    columns |= {name: [row.get(name) for row in rows] for name in schema.names}
    full = ledger_schema(schema)
    return pa.table([pa.array(columns[item.name], item.type) for item in full], schema=full)


@dataclass(frozen=True, slots=True)
class Batch:
    """Finished records of one table: their lines as a table, and what the driver decides by, one entry a record.

    Whatever can be counted is, where the records are made: the driver hears of those of all engines.
    """

    lines: pa.Table
    leases: list[int]
    sources: list[int]
    outcomes: list[tuple[str, str | None]]
    tokens: dict[str, list[int]]
    verdicts: Counter[str]  # by result
    preferred: Counter[str]  # judgements by the position that they preferred

    @classmethod
    def of(cls, records: list[Record], schema: pa.Schema) -> Batch:
        """The batch of some records."""
        tokens: dict[str, list[int]] = {}
        for record in records:
            add_tokens(tokens, record.tokens)
        lines = to_table(records, schema)
        return cls(
            lines,
            [record.lease for record in records],
            [record.source for record in records],
            [(record.status, record.reason) for record in records],
            tokens,
            verdict_results(lines),
            verdict_positions(lines),
        )

    def only(self, counted: Sequence[bool]) -> Batch:
        """The records that count: the others' rows are another worker's now. All tokens were made."""
        sources = [source for source, counts in zip(self.sources, counted, strict=True) if counts]
        lines = self.lines.filter(pc.is_in(self.lines["_source"], pa.array(sources, pa.int64())))
        return Batch(
            lines,
            [lease for lease, counts in zip(self.leases, counted, strict=True) if counts],
            sources,
            [outcome for outcome, counts in zip(self.outcomes, counted, strict=True) if counts],
            self.tokens,
            verdict_results(lines),
            verdict_positions(lines),
        )


def add_tokens(total: dict[str, list[int]], more: Mapping[str, Sequence[int]]) -> None:
    """Add counts of tokens, in and out by role, in place."""
    for role, (taken, made) in more.items():
        counts = total.setdefault(role, [0, 0])
        counts[0] += taken
        counts[1] += made


def verdict_results(lines: pa.Table) -> Counter[str]:
    """Verdicts by result (first, second, tie, unparsed, inconsistent), of a flow whose rows carry any."""
    if "verdict_forward" not in lines.column_names:
        return Counter()
    orders = zip(lines["verdict_forward"].to_pylist(), lines["verdict_backward"].to_pylist(), strict=True)
    return Counter(
        forward if backward in (None, forward) else "inconsistent"
        for forward, backward in orders
        if forward is not None
    )


def verdict_positions(lines: pa.Table) -> Counter[str]:
    """Judgements that decided, by the position of the preferred answer. Backward, the second answer was shown first."""
    if "verdict_forward" not in lines.column_names:
        return Counter()
    turned = {"first": "second", "second": "first"}
    forward = [verdict for verdict in lines["verdict_forward"].to_pylist() if verdict in turned]
    backward = [turned[verdict] for verdict in lines["verdict_backward"].to_pylist() if verdict in turned]
    return Counter(forward + backward)
