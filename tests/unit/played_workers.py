"""Workers that a test plays, one slice a tick, with what lies between them and the driver: two exchanges under way with each."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from selfalign_jobs.generate.driver import Event, Lost, Report, Started
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import EXCHANGES, SLICE_SECONDS, max_open_flows
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.generate.records import Batch, Record

SCHEMA = pa.schema([("topic", pa.string())])


@dataclass
class PlayedWorker:
    """An engine that joins at a tick, may be lost at others, and whose flows take some ticks each."""

    sequences: int
    joins: int
    slowness: int  # ticks a flow takes, at most
    dies: frozenset[int] = frozenset()
    there: bool = False
    starts: int = 0  # the tick of its next start
    to_send: list[Task] = field(default_factory=list)
    back: int = 0
    owed: int = 0
    under_way: deque[tuple[list[Task], int]] = field(default_factory=deque)
    queue: deque[Task] = field(default_factory=deque)  # not begun
    flows: list[tuple[int, Task]] = field(default_factory=list)  # open: the tick of its end, and the row
    idle: int = 0  # ticks without a flow while rows wait, up to now

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts(4096, self.sequences, 0.0, versions={"played": "1"})


@dataclass
class PlayedWorkers:
    """All of them (`driver.Workers`); `watch` is called after each tick."""

    workers: dict[str, PlayedWorker]
    watch: Callable[[PlayedWorkers], None]
    seed: int = 0
    tick: int = 0
    given: dict[str, int] = field(default_factory=dict)  # rows by worker
    done: set[int] = field(default_factory=set)  # rows

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        for worker in self.workers.values():
            worker.starts = worker.joins

    @property
    def names(self) -> list[str]:
        return list(self.workers)

    @property
    def now(self) -> float:
        return self.tick * SLICE_SECONDS

    @property
    def begun_or_done(self) -> set[int]:
        """Rows that need no engine any more, or have one."""
        return self.done.union(*({task.source for _, task in worker.flows} for worker in self.workers.values()))

    def give(self, worker: str, tasks: list[Task]) -> None:
        assert self.workers[worker].there
        self.given[worker] = self.given.get(worker, 0) + len(tasks)
        self.workers[worker].to_send += tasks
        self.workers[worker].owed += len(tasks)

    def take_back(self, worker: str, rows: int) -> None:
        assert self.workers[worker].there
        self.workers[worker].back = rows

    def restart(self, worker: str) -> None:
        raise AssertionError(f"{worker} was never silent")

    def wait(self, seconds: float) -> Iterator[Event]:
        self.tick += 1
        for name in self._draw.sample(self.names, len(self.names)):
            worker = self.workers[name]
            if worker.there and self.tick in worker.dies:
                self.workers[name] = PlayedWorker(worker.sequences, 0, worker.slowness, worker.dies)
                self.workers[name].starts = self.tick + 1 + self._draw.randrange(20)
                yield Lost(name, "killed")
            elif not worker.there and self.tick >= worker.starts:
                worker.there = True
                yield Started(name, worker.facts)
            elif worker.there:
                yield from self._exchange(name, worker)
        self.watch(self)

    def _exchange(self, name: str, worker: PlayedWorker) -> Iterator[Event]:
        while worker.owed and len(worker.under_way) < EXCHANGES:
            worker.under_way.append((worker.to_send, worker.back))
            worker.to_send, worker.back = [], 0
        if not worker.under_way:
            return
        tasks, back = worker.under_way.popleft()
        worker.queue.extend(tasks)
        given_back = [worker.queue.pop() for _ in range(min(back, len(worker.queue)))]
        ended = [task for end, task in worker.flows if end <= self.tick]
        worker.flows = [(end, task) for end, task in worker.flows if end > self.tick]
        while worker.queue and len(worker.flows) < max_open_flows(worker.facts):
            worker.flows.append((self.tick + self._draw.randint(1, worker.slowness), worker.queue.popleft()))
        self.done |= {task.source for task in ended}
        worker.owed -= len(ended) + len(given_back)
        records = [Record(task.record, task.source, task.lease, "rows", rows=(task.row,)) for task in ended]
        batches = {"out": Batch.of(records, SCHEMA)} if records else {}
        yield Report(name, batches, KvUse(0.0, 0), [(task.lease, task.source) for task in given_back] if back else None)
