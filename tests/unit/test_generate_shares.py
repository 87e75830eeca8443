"""Shares: every engine has rows as long as there are any."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_workers import SCHEMA, PlayedWorker, PlayedWorkers

from selfalign_jobs.generate import driver as driver_module
from selfalign_jobs.generate.driver import Driver, TableJob
from selfalign_jobs.generate.in_flight import EXCHANGES
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.records import PreparedRows
from selfalign_jobs.places.store import Folder, read_parts
from selfalign_jobs.step.progress import Progress

# For so long an engine may wait for rows that another had: the other gives them back after the exchanges under way with it,
# and they are begun with this one's next.
WORD_TICKS = EXCHANGES + 2


def nothing(_: PlayedWorkers) -> None:
    """What most tests watch."""


def drive(folder: Path, rows: int, workers: PlayedWorkers) -> Driver:
    """Run a table of so many rows to its end."""
    prepared = PreparedRows(pa.table({"topic": [f"t{number}" for number in range(rows)]}), "out", "sha256:step")
    place = Folder.open(folder.as_uri())
    job = TableJob("out", "f", prepared, PartWriter(place, "out", SCHEMA, 1, read_ledger(place, prepared, 1)))
    driver = Driver({"out": job}, workers, Progress("s"), threading.Event(), 100.0, clock=lambda: workers.now)
    driver.run()
    records = read_parts(place, job.writer.ledger.entry)["_source"].to_pylist()
    assert sorted(records) == list(range(rows)), "a row has no record, or two"
    return driver


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, list[PlayedWorker], int]:
    """Rows, engines of different sizes and speeds that come late and are lost, and a seed."""
    count = draw(st.one_of(st.integers(1, 8), st.integers(9, 64)))
    sequences = st.sampled_from([1, 2, 4, 8, 16, 40])
    late = st.sampled_from([1, 1, 1, 2, 5, 40, 150])
    dies = st.frozensets(st.integers(2, 120), max_size=2)
    worker = st.builds(PlayedWorker, sequences=sequences, joins=late, slowness=st.integers(1, 60), dies=dies)
    return draw(st.integers(1, 1500)), draw(st.lists(worker, min_size=count, max_size=count)), draw(st.integers(0, 99))


@settings(max_examples=40, deadline=None)
@given(world=worlds())
def test_no_engine_is_idle_while_rows_wait(
    tmp_path_factory: pytest.TempPathFactory, world: tuple[int, list[PlayedWorker], int]
) -> None:
    rows, engines, seed = world

    def watch(played: PlayedWorkers) -> None:
        waiting = rows - len(played.begun_or_done)
        for name, worker in played.workers.items():
            worker.idle = worker.idle + 1 if worker.there and not worker.flows and waiting else 0
            assert worker.idle <= WORD_TICKS, f"{name} waits at tick {played.tick} while {waiting} rows do"

    played = PlayedWorkers({f"engine-{number}": worker for number, worker in enumerate(engines)}, watch, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "DEATHS_WITHOUT_PROGRESS", 1000)
        drive(tmp_path_factory.mktemp("store"), rows, played)


@pytest.mark.parametrize(("engines", "rows"), [(8, 2500), (64, 60_000), (3, 400), (64, 1_000), (8, 8), (2, 3)])
def test_rows_that_all_engines_could_begin_at_once_are_shared_equally(engines: int, rows: int, tmp_path: Path) -> None:
    """What one engine could take alone: 2 500 rows were given to two of eight, and 60 000 to 38 of 64."""

    class Seen(Exception):
        """All that this test wants to see."""

    def watch(played: PlayedWorkers) -> None:
        if played.tick == 2:
            raise Seen([len(worker.flows) for worker in played.workers.values()])

    workers = {f"engine-{number}": PlayedWorker(1024, joins=1, slowness=4) for number in range(engines)}
    with pytest.raises(Seen) as seen:
        drive(tmp_path, rows, PlayedWorkers(workers, watch))
    (begun,) = seen.value.args
    assert sum(begun) == rows
    assert max(begun) - min(begun) <= 1


def test_an_engine_that_loads_has_its_share_kept(tmp_path: Path) -> None:
    """One is there at once, the others a little later: it does not begin what they could."""
    workers = {
        f"engine-{number}": PlayedWorker(1024, joins=1 if number == 0 else 20, slowness=100) for number in range(4)
    }
    played = PlayedWorkers(workers, nothing)
    drive(tmp_path, 1000, played)
    assert max(played.given.values()) < 1.5 * min(played.given.values())


def test_an_engine_that_never_comes_keeps_no_share_for_ever(tmp_path: Path) -> None:
    workers = {"engine-0": PlayedWorker(256, joins=1, slowness=4)}
    workers |= {f"engine-{number}": PlayedWorker(256, joins=100_000, slowness=4) for number in range(1, 64)}
    open_at_the_end: list[int] = []
    played = PlayedWorkers(workers, lambda now: open_at_the_end.append(len(now.workers["engine-0"].flows)))
    drive(tmp_path, 20_000, played)
    assert max(open_at_the_end[-10:]) > 100


def test_rows_behind_a_slow_engine_go_to_one_that_comes_late(tmp_path: Path) -> None:
    workers = {"engine-0": PlayedWorker(8, joins=1, slowness=400), "engine-1": PlayedWorker(8, joins=600, slowness=4)}
    played = PlayedWorkers(workers, nothing)
    drive(tmp_path, 40, played)
    assert played.given["engine-1"] > 0
