"""Part files: records made durable, whole, and read back on resume.

A part is one Parquet file with all lines of its records, so one rename (or one put) commits them all or none. What a
kill may cost is what is not yet committed: `PART_RECORDS` records or `PART_SECONDS` seconds, and as much again while a
part is being written, beside the flows in flight.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_jobs.generate.records import LEDGER, Batch, PreparedRows, add_tokens, ledger_schema
from selfalign_jobs.places.store import Folder, TableEntry, parts_of

PART_RECORDS = 1024
PART_SECONDS = 30.0
READERS = 16  # parts read at once on resume
PARTS_WAITING = 16  # so many parts' records in memory, and the driver waits for a slow store
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

    def count(self, part: str, sources: Iterable[int], outcomes: Counter[tuple[str, str | None]], rows: int) -> None:
        """A part is durable, with the records of these rows."""
        self.parts.append(part)
        for source in sources:
            self.done[source] = 1
        self.outcomes.update(outcomes)
        self.rows += rows

    @property
    def entry(self) -> TableEntry:
        """The table as the manifest lists it; `rows` counts the flow's rows, not the lines of records without any."""
        return TableEntry(parts=tuple(self.parts), rows=self.rows)


@dataclass(slots=True)
class _Records:
    """Records that are not durable yet, of one part to be."""

    tables: list[pa.Table] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    outcomes: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    oldest: float = 0.0

    def add(self, more: Batch | _Records) -> None:
        self.tables += [more.lines] if isinstance(more, Batch) else more.tables
        self.sources += more.sources
        self.outcomes.update(more.outcomes)
        add_tokens(self.tokens, more.tokens)


@dataclass(frozen=True, slots=True)
class _Writing:
    """A part that is being written; the result is how many rows it has."""

    name: str
    records: _Records
    seconds: float
    rows: Future[int]


class PartWriter:
    """Collects accepted records of one table and commits them as parts, one at a time.

    All but the writing itself is the caller's thread's.
    """

    def __init__(self, folder: Folder, table: str, schema: pa.Schema, attempt: int, ledger: Ledger) -> None:
        self.ledger = ledger
        self._folder = folder
        self._table = table
        self._schema = ledger_schema(schema)
        # Unique by process: an earlier driver that is not dead yet, of the same attempt even, overwrites nothing.
        self._name = f"parts/{table}/{attempt:05d}-{{:06d}}-{uuid.uuid4().hex[:8]}.parquet"
        self._sequence = 0
        self._records = _Records()
        self._writing: _Writing | None = None

    @property
    def pending(self) -> int:
        """Records that a kill would cost."""
        written = 0 if self._writing is None else len(self._writing.records.sources)
        return written + len(self._records.sources)

    @property
    def outcomes(self) -> Counter[tuple[str, str | None]]:
        """(status, reason) -> records, durable and pending."""
        durable = self.ledger.outcomes + self._records.outcomes
        return durable if self._writing is None else durable + self._writing.records.outcomes

    @property
    def place(self) -> str:
        """Where the parts lie, in the step's folder."""
        return f"parts/{self._table}"

    def set_aside(self, limit: int) -> list[tuple[int, str, str | None]]:
        """Row number, reason and detail of records that were set aside, durable ones first, at most `limit`."""
        names = ["_source", "_status", "_reason", "_detail"]
        durable = (self._folder.read_table(part, names) for part in self.ledger.parts)
        written = [] if self._writing is None else self._writing.records.tables
        aside = (
            (line["_source"], line["_reason"], line["_detail"])
            for table in chain(durable, written, self._records.tables)
            for line in table.filter(pc.field("_status") == "set-aside").select(names).to_pylist()
        )
        return list(islice(aside, limit))

    def add(self, batch: Batch) -> None:
        """Take finished records."""
        if not self._records.sources:
            self._records.oldest = time.monotonic()
        self._records.add(batch)

    @property
    def due(self) -> bool:
        """Whether it is time to begin a part; the next one waits for the one before."""
        number, age = len(self._records.sources), time.monotonic() - self._records.oldest
        return self._writing is None and (number >= PART_RECORDS or (number > 0 and age >= PART_SECONDS))

    @property
    def behind(self) -> bool:
        """Whether the store takes so long that the records which wait for it would fill the memory."""
        return len(self._records.sources) >= PARTS_WAITING * PART_RECORDS

    def begin(self, seconds: float, pool: Executor) -> None:
        """Have what is pending written as one part; `seconds` is the active time that goes on its account."""
        records, self._records = self._records, _Records()
        name = self._name.format(self._sequence)
        self._sequence += 1
        self._writing = _Writing(name, records, seconds, pool.submit(self._write, name, records, seconds))

    def settle(self, *, wait: bool) -> None:
        """Count the part that was begun, once it is durable; raises what writing it raised, and its records wait again."""
        if (writing := self._writing) is None or not (wait or writing.rows.done()):
            return
        try:
            rows = writing.rows.result()
        except BaseException:
            self._writing = None
            later, self._records = self._records, writing.records
            self._records.add(later)
            raise
        self._writing = None
        self.ledger.count(writing.name, writing.records.sources, writing.records.outcomes, rows)
        self.ledger.seconds += writing.seconds
        add_tokens(self.ledger.tokens, writing.records.tokens)

    def commit(self, seconds: float) -> None:
        """Make all that is pending durable before it returns, what an earlier write failed with too; raises that failure then."""
        try:
            self.settle(wait=True)
        finally:
            if self._records.sources:
                with ThreadPoolExecutor(1) as pool:
                    self.begin(seconds, pool)
                    self.settle(wait=True)

    def _write(self, name: str, records: _Records, seconds: float) -> int:
        table = pa.concat_tables(records.tables).combine_chunks()
        facts = {"records": len(records.sources), "tokens": records.tokens, "seconds": seconds}
        self._folder.write_table(name, table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()}))
        return _count_rows(table)


def tokens_of(folder: Folder, parts: Iterable[str]) -> dict[str, list[int]]:
    """Tokens read and written by role, of these parts of a finished table."""
    found: dict[str, list[int]] = {}
    for part in parts:
        add_tokens(found, json.loads(folder.read_schema(part).metadata[_FACTS])["tokens"])
    return found


def read_ledger(folder: Folder, rows: PreparedRows, attempt: int) -> Ledger:
    """What earlier attempts made durable of the table that these rows become.

    The first part in order wins a record that several have (an earlier driver wrote on after its successor had started):
    a part that holds only such records does not count, one that holds some is replaced by a part of this attempt.
    Raises RuntimeError for a part whose records are not those of this step's rows.
    """
    ledger = Ledger([], bytearray(len(rows)))
    parts = list(parts_of(folder, rows.out))
    columns = [column.name for column in LEDGER]
    with ThreadPoolExecutor(READERS) as pool:  # a bucket answers many at once, each after a while
        contents = pool.map(lambda part: folder.read_table(part, columns), parts)
        for number, (part, content) in enumerate(zip(parts, contents, strict=True)):
            _read_part(ledger, folder, rows, part, content, f"{attempt:05d}-again-{number:06d}")
    return ledger


def _read_part(ledger: Ledger, folder: Folder, rows: PreparedRows, part: str, content: pa.Table, again: str) -> None:
    facts = json.loads(content.schema.metadata[_FACTS])
    sources = content["_source"].to_pylist()
    if content["_record"].to_pylist() != rows.ids(sources):
        raise RuntimeError(f"{part} holds records of other rows than this step has")
    fresh = [not ledger.done[source] for source in sources]
    if not any(fresh):
        return
    if not all(fresh):
        content = folder.read_table(part).filter(pa.array(fresh))
        part = f"parts/{rows.out}/{again}-{uuid.uuid4().hex[:8]}.parquet"
        folder.write_table(part, content)
    ends = zip(*(content[name].to_pylist() for name in ("_source", "_status", "_reason")), strict=True)
    outcomes = {source: (status, reason) for source, status, reason in ends}
    ledger.count(part, outcomes, Counter(outcomes.values()), _count_rows(content))
    ledger.seconds += facts["seconds"]
    add_tokens(ledger.tokens, facts["tokens"])


def _count_rows(table: pa.Table) -> int:
    return int(pc.sum(pc.equal(table["_status"], "rows")).as_py() or 0)
