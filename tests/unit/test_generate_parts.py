"""Part files: whole records, committed at once, read back on resume."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign_jobs.generate import parts
from selfalign_jobs.generate.parts import Ledger, PartWriter, read_ledger
from selfalign_jobs.generate.records import Batch, PreparedRows, Record, Status, to_table
from selfalign_jobs.places.store import Folder, read_parts
from selfalign_jobs.step.prepared import rows_of

SCHEMA = pa.schema([("text", pa.string()), ("ids", pa.list_(pa.int32())), ("seed", pa.uint64())])
ROWS = PreparedRows(pa.table({"persona": [f"p{number}" for number in range(20)]}), "pairs", "sha256:step")


def record(source: int, text: str = "t", status: Status = "rows", count: int = 1) -> Record:
    rows = [{"text": f"{text}{source}", "ids": (1, 2), "seed": 2**64 - 1}] * count
    reason = None if status == "rows" else "tie"
    return Record(ROWS.ids([source])[0], source, 1, status, reason, rows=rows, tokens={"ask": [3, 2]})


def commit(folder: Folder, attempt: int, *records: Record) -> Ledger:
    """One part by a driver that knows of no other."""
    ledger = Ledger([], bytearray(len(ROWS)))
    writer = PartWriter(folder, "pairs", SCHEMA, attempt, ledger)
    for one in records:
        writer.add(Batch.of([one], SCHEMA))
    writer.commit(seconds=1.5)
    return ledger


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    written = commit(folder, 1, record(3, count=2), record(5, status="dropped", count=0), record(4))
    assert read_ledger(folder, ROWS, attempt=2) == written
    assert [source for source, mark in enumerate(written.done) if mark] == [3, 4, 5]
    assert (written.rows, written.records, written.seconds) == (3, 3, 1.5)
    assert written.outcomes == {("rows", None): 2, ("dropped", "tie"): 1}
    assert written.tokens == {"ask": [9, 6]}


def test_readers_see_the_flows_rows_in_the_order_of_their_sources(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    first = commit(folder, 1, record(9), record(2, status="set-aside", count=0), record(1, count=2))
    second = commit(folder, 2, record(0))
    first.parts += second.parts
    rows = rows_of(read_parts(folder, first.entry))
    assert rows.column_names == SCHEMA.names
    assert rows["text"].to_pylist() == ["t0", "t1", "t1", "t9"]


@settings(max_examples=25)
@given(
    written=st.lists(
        st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True).map(tuple), min_size=1, max_size=6
    )
)
def test_a_record_in_several_parts_counts_once_and_the_first_part_wins(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, ...]]
) -> None:
    folder = Folder.open(tmp_path_factory.mktemp("store").as_uri())
    first: dict[int, str] = {}
    for attempt, sources in enumerate(written, start=1):
        commit(folder, attempt, *(record(source, f"a{attempt}-") for source in sources))
        for source in sources:
            first.setdefault(source, f"a{attempt}-{source}")
    for resumed in (90, 91):  # and what the first resume wrote changes nothing for the next
        ledger = read_ledger(folder, ROWS, attempt=resumed)
        table = rows_of(read_parts(folder, ledger.entry))
        assert table["text"].to_pylist() == [first[source] for source in sorted(first)]
        assert ledger.records == len(first) == ledger.rows == sum(ledger.done)


def test_parts_of_other_rows_are_refused(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    commit(folder, 1, record(3))
    other = PreparedRows(pa.table({"persona": ["someone else"] * 20}), "pairs", "sha256:step")
    with pytest.raises(RuntimeError, match="records of other rows"):
        read_ledger(folder, other, attempt=2)


def test_a_part_is_due_after_its_records_or_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(parts.time, "monotonic", lambda: now)
    monkeypatch.setattr(parts, "PART_RECORDS", 2)
    writer = PartWriter(Folder.open(tmp_path.as_uri()), "pairs", SCHEMA, 1, Ledger([], bytearray(20)))
    assert not writer.due
    for source in range(2):
        assert not writer.due
        writer.add(Batch.of([record(source)], SCHEMA))
    assert writer.due
    writer.commit(seconds=0)
    writer.add(Batch.of([record(7)], SCHEMA))
    assert not writer.due
    now += parts.PART_SECONDS
    assert writer.due


def test_two_drivers_of_one_attempt_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    commit(folder, 1, record(1))
    commit(folder, 1, record(2))
    assert read_ledger(folder, ROWS, attempt=2).records == 2


def test_a_failed_commit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = Folder.open(tmp_path.as_uri())
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        commit(folder, 1, record(1))
    monkeypatch.undo()
    assert read_ledger(folder, ROWS, attempt=2).records == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_column_that_the_schema_lacks_is_named() -> None:
    odd = Record("r", 0, 1, "rows", rows=[{"text": "t", "txet": "t"}])
    with pytest.raises(KeyError, match="txet"):
        to_table([odd], SCHEMA)


def test_record_ids_depend_on_step_table_row_number_and_content() -> None:
    table = pa.table({"persona": ["a", "a", "b"]})
    ids = {
        id
        for out in ("pairs", "answers")
        for digest in ("sha256:1", "sha256:2")
        for id in PreparedRows(table, out, digest).ids([0, 1, 2])
    }
    assert len(ids) == 12
    other = pa.table({"persona": ["c", "a", "b"]})
    assert PreparedRows(other, "pairs", "sha256:1").ids([1, 2]) == PreparedRows(table, "pairs", "sha256:1").ids([1, 2])
