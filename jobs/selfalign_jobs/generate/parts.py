"""Part files: records made durable, whole, and read back on resume.

A part is one Parquet file with all lines of its records, so one rename (or one put) commits them all or none. What a
kill may cost is what is not yet committed: at most `PART_RECORDS` records or `PART_SECONDS` seconds, beside the flows in
flight.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.generate.records import LEDGER, PreparedRows, add_tokens, ledger_schema
from selfalign_jobs.places.store import Folder, TableEntry, parts_of

PART_RECORDS = 1024
PART_SECONDS = 30.0
_FACTS = b"selfalign.part"  # key in the file's schema metadata


@dataclass
class Ledger:
    """What is durable of one table: its parts in order, which rows are done, and the figures of their records."""

    parts: list[str]
    done: bytearray  # by row number of the prepared table: 1 when its record is durable
    rows: int = 0
    outcomes: Counter[tuple[str, str | None]] = field(default_factory=Counter)  # (status, reason) -> records
    tokens: dict[str, list[int]] = field(default_factory=dict)  # role -> [in, out]
    seconds: float = 0.0  # active time that these parts took

    @property
    def records(self) -> int:
        """How many records are durable."""
        return sum(self.outcomes.values())

    @property
    def entry(self) -> TableEntry:
        """The table as the manifest lists it; `rows` counts the flow's rows, not the lines of records without any."""
        return TableEntry(parts=tuple(self.parts), rows=self.rows)


class PartWriter:
    """Collects accepted records of one table and commits them as parts."""

    def __init__(self, folder: Folder, table: str, schema: pa.Schema, attempt: int, ledger: Ledger) -> None:
        self.ledger = ledger
        self._folder = folder
        self._table = table
        self._schema = ledger_schema(schema)
        # Unique by process: an earlier driver that is not dead yet, of the same attempt even, overwrites nothing.
        self._name = f"parts/{table}/{attempt:05d}-{{:06d}}-{uuid.uuid4().hex[:8]}.parquet"
        self._sequence = 0
        self._pending: list[pa.Table] = []
        self._outcomes: Counter[tuple[str, str | None]] = Counter()
        self._tokens: dict[str, list[int]] = {}
        self._oldest = 0.0

    @property
    def pending(self) -> int:
        """Records that a kill would cost."""
        return sum(self._outcomes.values())

    @property
    def outcomes(self) -> Counter[tuple[str, str | None]]:
        """(status, reason) -> records, durable and pending."""
        return self.ledger.outcomes + self._outcomes

    @property
    def place(self) -> str:
        """Where the parts lie, in the step's folder."""
        return f"parts/{self._table}"

    def set_aside(self, limit: int) -> list[tuple[int, str, str | None]]:
        """Row number, reason and detail of records that were set aside, durable ones first, at most `limit`."""
        names = ["_source", "_status", "_reason", "_detail"]
        durable = (self._folder.read_table(part, names) for part in self.ledger.parts)
        aside = (
            (line["_source"], line["_reason"], line["_detail"])
            for table in chain(durable, self._pending)
            for line in table.filter(pc.field("_status") == "set-aside").select(names).to_pylist()
        )
        return list(islice(aside, limit))

    def add(self, table: pa.Table, outcomes: Counter[tuple[str, str | None]], tokens: dict[str, list[int]]) -> None:
        """Take finished records; `table` has all their lines."""
        if not self._pending:
            self._oldest = time.monotonic()
        self._pending.append(table)
        self._outcomes += outcomes
        add_tokens(self._tokens, tokens)

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        return self.pending >= PART_RECORDS or (self.pending > 0 and time.monotonic() - self._oldest >= PART_SECONDS)

    def commit(self, seconds: float) -> None:
        """Commit what is pending as one part; `seconds` is the active time that goes on its account."""
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        facts = {"records": self.pending, "tokens": self._tokens, "seconds": seconds}
        name = self._name.format(self._sequence)
        self._folder.write_table(name, table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()}))
        self._sequence += 1
        self.ledger.parts.append(name)
        self.ledger.rows += _count_rows(table)
        self.ledger.outcomes += self._outcomes
        self.ledger.seconds += seconds
        add_tokens(self.ledger.tokens, self._tokens)
        for source in set(table["_source"].to_pylist()):
            self.ledger.done[source] = 1
        self._pending, self._outcomes, self._tokens = [], Counter(), {}


def read_ledger(folder: Folder, rows: PreparedRows, attempt: int) -> Ledger:
    """What earlier attempts made durable of the table that these rows become.

    The first part in order wins a record that several have (an earlier driver wrote on after its successor had started):
    a part that holds only such records does not count, one that holds some is replaced by a part of this attempt.
    Raises RuntimeError for a part whose records are not those of this step's rows.
    """
    ledger = Ledger([], bytearray(len(rows)))
    for number, part in enumerate(list(parts_of(folder, rows.out))):
        content = folder.read_table(part, [column.name for column in LEDGER])
        facts = json.loads(content.schema.metadata[_FACTS])
        sources = content["_source"].to_pylist()
        if content["_record"].to_pylist() != rows.ids(sources):
            raise RuntimeError(f"{part} holds records of other rows than this step has")
        fresh = [not ledger.done[source] for source in sources]
        if not any(fresh):
            continue
        if not all(fresh):
            content = folder.read_table(part).filter(pa.array(fresh))
            part = f"parts/{rows.out}/{attempt:05d}-again-{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
            folder.write_table(part, content)
        _count(ledger, part, content, facts)
    return ledger


def _count(ledger: Ledger, part: str, content: pa.Table, facts: dict[str, object]) -> None:
    firsts: dict[int, tuple[str, str | None]] = {}
    columns = (content[name].to_pylist() for name in ("_source", "_status", "_reason"))
    for source, status, reason in zip(*columns, strict=True):
        firsts[source] = (status, reason)
        ledger.done[source] = 1
    ledger.parts.append(part)
    ledger.rows += _count_rows(content)
    ledger.outcomes += Counter(firsts.values())
    ledger.seconds += float(facts["seconds"])  # type: ignore[arg-type]
    add_tokens(ledger.tokens, facts["tokens"])  # type: ignore[arg-type]


def _count_rows(table: pa.Table) -> int:
    return int(pc.sum(pc.equal(table["_status"], "rows")).as_py() or 0)
