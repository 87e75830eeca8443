"""The driver: every row gets one durable record, whatever becomes of the workers."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine, likes_first
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.plan import FlowJob, Prepare, Role
from selfalign_jobs.flow import Ask, Dropped, Row, SetAside
from selfalign_jobs.generate import driver as driver_module
from selfalign_jobs.generate import parts
from selfalign_jobs.generate.driver import Driver, Event, Lost, Report, Started, TableJob
from selfalign_jobs.generate.engine import KvUse
from selfalign_jobs.generate.leases import LEASE_SECONDS
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.records import Batch, PreparedRows, verdict_positions, verdict_results
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.places.store import Folder, read_parts
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.failure import Failed
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.step.progress import Progress

ROLES = {"ask": Role(max_tokens=8)}
SCHEMA = pa.schema([("topic", pa.string()), ("token", pa.int64())])


def flow(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
    (reply,) = yield ask.write("ask", prompt=row["topic"])
    if row["topic"].startswith("tie"):
        raise Dropped("tie")
    if row["topic"].startswith("bad"):
        raise SetAside("bad topic")
    return [{"topic": row["topic"], "token": reply.ids[0]}]


@dataclass
class LocalWorkers:
    """Workers in this process. Each act of `script` happens at one `wait`, to the worker it names."""

    names: tuple[str, ...]
    act: Callable[[], tuple[str, str]]  # -> what happens ("work", "die", "hang", "revive"), to whom
    now: float = 0.0
    loops: dict[str, FlowLoop] = field(default_factory=dict)
    hung: dict[str, FlowLoop] = field(default_factory=dict)
    asked_back: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # record ids, each time a worker begins one

    def loop(self) -> FlowLoop:
        setup = JobSetup(
            FlowJob(flow="f", rows=Prepare(fn="draw"), out="out", roles=ROLES),
            flow,
            Renderer(Letters(), ROLES, 256),
            run_seed=0,
        )
        return FlowLoop(FakeEngine(likes_first, sequences=4), {"out": setup}, max_open=4)

    def give(self, worker: str, tasks: list[Task]) -> None:
        self.asked += [task.record for task in tasks]
        if worker in self.loops:
            self.loops[worker].add(tasks)
        else:
            self.hung[worker].add(tasks)

    def take_back(self, worker: str, rows: int) -> None:
        self.asked_back[worker] = rows

    def restart(self, worker: str) -> None:
        self.asked_back.pop(worker, None)
        self.hung.pop(worker, None)
        self.loops.pop(worker, None)

    def wait(self, seconds: float) -> list[Event]:
        self.now += seconds
        what, worker = self.act()
        if what == "start" and worker not in self.loops and worker not in self.hung:
            self.loops[worker] = self.loop()
            return [Started(worker, FakeEngine(likes_first, sequences=4).facts)]
        if what == "die" and (worker in self.loops or worker in self.hung):
            self.restart(worker)
            return [Lost(worker, "killed")]
        if what == "hang" and worker in self.loops:
            self.hung[worker] = self.loops.pop(worker)
            self.now += LEASE_SECONDS
        if what == "late" and worker in self.hung:  # it hung for longer than its lease and speaks after all
            return [self._work(worker, self.hung[worker])]
        if what == "work" and worker in self.loops:
            return [self._work(worker, self.loops[worker])]
        return []

    def _work(self, worker: str, loop: FlowLoop) -> Report:
        back = self.asked_back.pop(worker, None)
        given_back = None if back is None else loop.give_back(back)
        loop.advance()
        records = loop.take_finished()["out"]
        return Report(worker, {"out": Batch.of(records, SCHEMA)} if records else {}, KvUse(0.0, 0), given_back)


def make(topics: list[str], folder: Folder, workers: LocalWorkers, attempt: int = 1, percent: float = 100) -> Driver:
    rows = PreparedRows(pa.table({"topic": pa.array(topics, pa.string())}), "out", "sha256:step")
    ledger = read_ledger(folder, rows, attempt)
    job = TableJob("out", "f", rows, PartWriter(folder, "out", SCHEMA, attempt, ledger))
    return Driver({"out": job}, workers, Progress("s"), threading.Event(), percent, clock=lambda: workers.now)


def steady(*names: str) -> Callable[[], tuple[str, str]]:
    """All start, then all work in turn."""
    turns = iter([("start", name) for name in names] + [("work", name) for name in names] * 1000)
    return lambda: next(turns)


def topics_of(folder: Folder, driver: Driver) -> list[str]:
    topics: list[str] = rows_of(read_parts(folder, driver.jobs["out"].writer.ledger.entry))["topic"].to_pylist()
    return topics


@settings(max_examples=60)
@given(count=st.integers(1, 60), data=st.data())
def test_every_row_has_one_record_whatever_becomes_of_workers(
    tmp_path_factory: pytest.TempPathFactory, count: int, data: st.DataObject
) -> None:
    folder = Folder.open(tmp_path_factory.mktemp("store").as_uri())
    acts = st.sampled_from(["work", "work", "work", "start", "die", "hang", "late"])
    names = ("a", "b", "c")
    budget = 60

    def act() -> tuple[str, str]:
        nonlocal budget
        budget -= 1
        if budget < 0:  # in the end the machines behave
            return ("start" if budget % 2 else "work", names[budget % 3])
        return data.draw(acts), data.draw(st.sampled_from(names))

    topics = [f"t{number}" for number in range(count)]
    driver = make(topics, folder, LocalWorkers(names, act))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "DEATHS_WITHOUT_PROGRESS", 1000)
        driver.run()
    assert topics_of(folder, driver) == topics
    assert driver.jobs["out"].writer.ledger.records == count


def test_a_resumed_driver_asks_only_for_what_is_not_durable(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    topics = [f"t{number}" for number in range(40)]
    first = make(topics, folder, LocalWorkers(("a",), steady("a")))
    waits = 0
    original = first.workers.wait

    def wait(seconds: float) -> list[Event]:
        nonlocal waits
        waits += 1
        if waits == 4:
            first.stop.set()
        return original(seconds)

    first.workers.wait = wait  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        first.run()
    durable = first.jobs["out"].writer.ledger
    assert 0 < durable.records < 40
    kept = {id for id, mark in zip(first.jobs["out"].rows.ids(range(40)), durable.done, strict=True) if mark}

    workers = LocalWorkers(("a",), steady("a"))
    second = make(topics, folder, workers, attempt=2)
    second.run()
    assert topics_of(folder, second) == topics
    assert not kept & set(workers.asked)
    assert len(workers.asked) == 40 - len(kept)


def test_a_later_engine_takes_its_share(tmp_path: Path) -> None:
    turns = iter([("start", "a"), ("work", "a"), ("start", "b")] + [("work", "b"), ("work", "a")] * 100)
    workers = LocalWorkers(("a", "b"), lambda: next(turns))
    given_to: list[str] = []
    give = workers.give
    workers.give = lambda worker, tasks: (given_to.append(worker), give(worker, tasks))  # type: ignore[method-assign, assign]
    make([f"t{number}" for number in range(100)], Folder.open(tmp_path.as_uri()), workers).run()
    assert set(given_to) == {"a", "b"}


def test_too_many_set_aside_fail_the_step_and_say_why(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    driver = make(["bad"] * 3 + ["good"] * 17, folder, LocalWorkers(("a",), steady("a")), percent=10)
    with pytest.raises(
        ConfigError, match=r"maxSetAsidePercent: 10 is exceeded: 3 of 20 records of out .*bad topic: 3"
    ) as said:
        driver.run()
    assert "the first are row 0: bad topic, row 1: bad topic, row 2: bad topic; each says why" in str(said.value)
    assert driver.jobs["out"].writer.pending == 0


def test_a_tolerated_share_and_any_number_of_dropped_records_fail_nothing(tmp_path: Path) -> None:
    topics = ["bad"] * 2 + ["tie"] * 15 + ["good"] * 3
    driver = make(topics, Folder.open(tmp_path.as_uri()), LocalWorkers(("a",), steady("a")), percent=10)
    driver.run()
    outcomes = driver.jobs["out"].writer.ledger.outcomes
    assert outcomes == {("set-aside", "bad topic"): 2, ("dropped", "tie"): 15, ("rows", None): 3}


def test_workers_that_only_die_fail_the_step(tmp_path: Path) -> None:
    turns = iter([("start", "a"), ("die", "a")] * 100)
    driver = make(["t"], Folder.open(tmp_path.as_uri()), LocalWorkers(("a",), lambda: next(turns)))
    with pytest.raises(Failed, match=r"^killed \(a was lost 3 times and no record was made between\)"):
        driver.run()


def test_a_stop_while_engines_start_ends_the_step(tmp_path: Path) -> None:
    driver = make(["t"], Folder.open(tmp_path.as_uri()), LocalWorkers(("a",), lambda: ("work", "a")))
    driver.stop.set()
    with pytest.raises(Stopped):
        driver.run()


def test_progress_and_metrics_count_records_and_tokens(tmp_path: Path) -> None:
    driver = make(["good"] * 5 + ["tie"] * 2, Folder.open(tmp_path.as_uri()), LocalWorkers(("a",), steady("a")))
    driver.run()
    snapshot = driver.progress.snapshot()
    assert (snapshot["phase"], snapshot["done"], snapshot["total"]) == ("generate", 7, 7)
    value = driver.progress.metrics.registry.get_sample_value
    assert value("selfalign_records_total", {"flow": "f", "outcome": "rows", "reason": ""}) == 5
    assert value("selfalign_records_total", {"flow": "f", "outcome": "dropped", "reason": "tie"}) == 2
    assert value("selfalign_tokens_total", {"role": "ask", "direction": "out"}) == 14


def test_verdicts_are_counted_by_result() -> None:
    forward = ["first", "second", "first", "tie", "unparsed", None, "second"]
    backward = ["first", "second", "second", "tie", "unparsed", None, None]
    lines = pa.table({"verdict_forward": forward, "verdict_backward": backward})
    assert verdict_results(lines) == {"first": 1, "second": 2, "inconsistent": 1, "tie": 1, "unparsed": 1}
    assert not verdict_results(pa.table({"answer": ["a"]}))


def test_judgements_are_counted_by_the_position_that_they_prefer() -> None:
    """Backward, the second answer is shown first: a judge that always takes the first shown says first, then second."""
    lines = pa.table(
        {"verdict_forward": ["first", "first", "tie", None], "verdict_backward": ["second", "first", "second", None]}
    )
    assert verdict_positions(lines) == {"first": 4, "second": 1}
    assert not verdict_positions(pa.table({"answer": ["a"]}))


def test_records_come_while_a_part_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_RECORDS", 1)
    folder = Folder.open(tmp_path.as_uri())
    workers = LocalWorkers(("a",), steady("a"))
    driver = make([f"t{number}" for number in range(40)], folder, workers)
    waits, more = 0, threading.Event()
    wait, write = workers.wait, folder.write_table

    def counted_wait(seconds: float) -> list[Event]:
        nonlocal waits
        waits += 1
        if waits == 6:
            more.set()
        return wait(seconds)

    def slow_write(name: str, table: pa.Table) -> int:
        assert more.wait(30), "the driver waits for the store"
        return write(name, table)

    monkeypatch.setattr(workers, "wait", counted_wait)
    monkeypatch.setattr(folder, "write_table", slow_write)
    driver.run()
    assert driver.jobs["out"].writer.ledger.records == 40


@pytest.mark.parametrize("failures", [1, 1000], ids=["once", "always"])
def test_what_a_write_raises_ends_the_step_and_no_accepted_record_is_forgotten(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_RECORDS", 8)
    folder = Folder.open(tmp_path.as_uri())
    driver = make([f"t{number}" for number in range(40)], folder, LocalWorkers(("a",), steady("a")))
    write, left = folder.write_table, failures

    def full(name: str, table: pa.Table) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(name, table)

    monkeypatch.setattr(folder, "write_table", full)
    with pytest.raises(OSError, match="no space") as raised:
        driver.run()
    assert raised.value.errno == errno.ENOSPC
    writer = driver.jobs["out"].writer
    assert writer.ledger.records + writer.pending >= 8
    assert (writer.pending == 0) == (failures == 1)
    assert read_ledger(folder, driver.jobs["out"].rows, attempt=2).records == writer.ledger.records
