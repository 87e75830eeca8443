"""Benchmark: the driver with many engines: CPU a second, memory, and how long it takes to read a million records back.

    python benchmarks/generate_fleet.py [--engines 1 8 64] [--rate 16] [--rows 1000] [--resume 1000000]

The driver, its leases and shares, the writer and the store's files are real; engines are played, on a clock on which the
driver's CPU counts: each finishes `rate` records a second of SAO with two answers of 400 tokens, and speaks every slice.
Its reports are made and pickled off the account, as an actor does elsewhere; reading them is on it. Not on it is what Ray
takes to carry them.
"""

from __future__ import annotations

import argparse
import heapq
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign_jobs.generate.driver import Driver, Event, Report, Started, TableJob
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import EXCHANGES, SLICE_SECONDS, max_open_flows
from selfalign_jobs.generate.loop import Task, spare_the_collector
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.records import Batch, PreparedRows, Record
from selfalign_jobs.places.store import Folder
from selfalign_jobs.recipes.sao import RECIPE
from selfalign_jobs.step.progress import Progress

SCHEMA = RECIPE.flows["sao"].schema
ANSWER_TOKENS, PROMPT_TOKENS, VOCABULARY, SPREAD = 400, 70, 128_000, 0.5
# Of SAO with such answers: a prompt of 60 tokens, the longer of two answers, verdicts; and how many sequences, in the mean.
STEPS_A_FLOW, SEQUENCES_A_FLOW = 575.0, 1.5
MOST_STEPS = 2062.0  # answers are cut at 2 000 tokens
FACTS = EngineFacts(8192, 1024, 0.0, versions={"played": "1"})
WORDS = Path(__file__).read_text().split()


def rows_of_sao(count: int) -> list[dict[str, Any]]:
    """Rows as SAO makes them, with text and ids that compress as little as real ones."""
    draw = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(f"{draw.choice(WORDS)[:6]}" for _ in range(tokens))

    def ids(tokens: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(tokens)]

    answers = [
        {
            **{name: text(ANSWER_TOKENS) for name in ("chosen", "rejected")},
            **{f"{name}_ids": ids(ANSWER_TOKENS) for name in ("chosen", "rejected")},
            **{f"{name}_finish": "stop" for name in ("chosen", "rejected")},
        }
        for _ in range(count)
    ]
    verdict = {"verdict_forward": "first", "verdict_backward": "first", "margin_forward": 0.3, "margin_backward": 0.3}
    common = {"prompt_seed": 1, "answer_seed": 5, "first_chosen": True, "p_first": 0.6, "margin": 0.3} | verdict
    return [
        {"persona": text(20), "prompt": text(55), "prompt_ids": ids(PROMPT_TOKENS)} | answer | common
        for answer in answers
    ]


@dataclass(frozen=True)
class Pace:
    """An engine's step: seconds as a + b * sequences."""

    a: float
    b: float

    @classmethod
    def of_rate(cls, records: float) -> Pace:
        """One that finishes so many records a second."""
        return cls(FACTS.max_sequences / SEQUENCES_A_FLOW / (STEPS_A_FLOW * records), 0.0)


@dataclass
class Engine:
    """A played engine: flows that are open share its steps; `done` counts the steps that each has had."""

    pace: Pace
    until: float = 0.0  # when its last exchange is over
    done: float = 0.0
    queue: deque[Task] = field(default_factory=deque)
    open: list[tuple[float, int, Task]] = field(default_factory=list)  # heap: how many steps done when it ends
    to_send: list[Task] = field(default_factory=list)
    back: int = 0
    owed: int = 0
    exchanges: int = 0
    waited: float = 0.0  # without an exchange under way, while it had flows

    def work(self, sent: float, tasks: list[Task], back: int, facts: EngineFacts) -> tuple[list[Task], list[Task]]:
        """One exchange: a slice, or less where nothing is left to do; what ended, and what it gives back."""
        start = max(self.until, sent)
        if self.open:
            self.waited += start - self.until
        self.queue.extend(tasks)
        given_back = [self.queue.pop() for _ in range(min(back, len(self.queue)))]
        now, ended = start, []
        while now < start + SLICE_SECONDS and (self.queue or self.open):
            while self.queue and len(self.open) < max_open_flows(facts):
                task = self.queue.popleft()
                heapq.heappush(self.open, (self.done + steps_of(task), task.source, task))
            wanted = SEQUENCES_A_FLOW * len(self.open)
            running = min(wanted, facts.max_sequences)
            now += self.pace.a + self.pace.b * running
            self.done += running / wanted
            while self.open and self.open[0][0] <= self.done:
                ended.append(heapq.heappop(self.open)[2])
        self.until = now
        return ended, given_back


def steps_of(task: Task) -> float:
    """Steps that a flow takes: its prompt, the longer of its answers, its verdicts."""
    return min(MOST_STEPS, STEPS_A_FLOW * random.Random(task.source).lognormvariate(-(SPREAD**2) / 2, SPREAD))


class Fleet:
    """Engines on a clock (`driver.Workers`), on which the driver's own CPU counts: one that is late makes them wait."""

    def __init__(self, engines: int, pace: Pace, facts: EngineFacts) -> None:
        self.names = [f"engine-{number}" for number in range(engines)]
        self.now = 0.0
        self.off = 0.0  # CPU that is the engines', not the driver's
        self.reports = 0
        self.done = 0
        self.all_out: tuple[float, int] = (0.0, 0)  # when the last row so far went out, and the records by then
        self._facts = facts
        self._engines = {name: Engine(pace) for name in self.names}
        self._to_ask: dict[str, None] = {}
        self._words: list[tuple[float, int, str, list[Task], list[Task] | None]] = []  # heap: when, what
        self._rows = rows_of_sao(64)
        self._since = time.thread_time()

    @property
    def waited(self) -> float:
        """Seconds that an engine has waited for the driver, in the mean."""
        return sum(engine.waited for engine in self._engines.values()) / len(self._engines)

    def clock(self) -> float:
        """The driver's time."""
        now = time.thread_time()
        self.now, self._since = self.now + now - self._since, now
        return self.now

    def give(self, worker: str, tasks: list[Task]) -> None:
        engine = self._engines[worker]
        engine.to_send += tasks
        engine.owed += len(tasks)
        self.all_out = (self.now, self.done)
        self._to_ask[worker] = None

    def take_back(self, worker: str, rows: int) -> None:
        self._engines[worker].back = rows
        self._to_ask[worker] = None

    def restart(self, worker: str) -> None:
        raise AssertionError(worker)

    def wait(self, seconds: float) -> Iterator[Event]:
        if not self.reports:
            yield from (Started(name, self._facts) for name in self.names)
        before = self._pause()
        for name in self._to_ask:
            self._exchange(name, self._engines[name])
        self._to_ask.clear()
        self._resume(before)
        if not self._words or self._words[0][0] > self.now + seconds:
            self.now += seconds
            return
        self.now = max(self.now, self._words[0][0])
        while self._words and self._words[0][0] <= self.now:
            before = self._pause()
            _, _, name, ended, given_back = heapq.heappop(self._words)
            pickled, buffers = self._pickled(ended)
            engine = self._engines[name]
            engine.exchanges -= 1
            engine.owed -= len(ended) + len(given_back or ())
            self.reports += 1
            self.done += len(ended)
            self._to_ask[name] = None
            rows = None if given_back is None else [(task.lease, task.source) for task in given_back]
            self._resume(before)
            yield Report(name, pickle.loads(pickled, buffers=buffers), KvUse(0.5, 0), rows)
            self.clock()

    def _exchange(self, name: str, engine: Engine) -> None:
        while engine.owed and engine.exchanges < EXCHANGES:
            ended, given_back = engine.work(self.now, engine.to_send, engine.back, self._facts)
            word = (engine.until, self.reports + len(self._words), name, ended, given_back if engine.back else None)
            heapq.heappush(self._words, word)
            engine.to_send, engine.back = [], 0
            engine.exchanges += 1

    def _pickled(self, ended: list[Task]) -> tuple[bytes, list[Any]]:
        records = [
            Record(
                task.record,
                task.source,
                task.lease,
                "rows",
                rows=(self._rows[task.source % len(self._rows)],),
                tokens={"respond": [PROMPT_TOKENS, 2 * ANSWER_TOKENS]},
            )
            for task in ended
        ]
        buffers: list[Any] = []
        batches = {"pairs": Batch.of(records, SCHEMA)} if records else {}
        return pickle.dumps(batches, protocol=5, buffer_callback=buffers.append), buffers

    def _pause(self) -> float:
        self.clock()
        return self._since

    def _resume(self, before: float) -> None:
        self._since = time.thread_time()
        self.off += self._since - before


@dataclass(frozen=True)
class Driven:
    """What a fleet showed."""

    rate: float  # records a second as long as rows wait
    whole: float  # records a second from start to end, its last flows included
    record: float  # seconds of CPU that one costs
    cores: float
    thread: float  # of the cores, the driver's thread
    waited: float
    peak: float  # MiB

    def __str__(self) -> str:
        return (
            f"{self.rate:.1f} records/s while rows wait ({self.whole:.1f} from start to end), "
            f"{1e6 * self.record:.0f} us of CPU a record ({self.cores:.3f} of a core, {self.thread:.3f} in the driver's thread), "
            f"an engine waited {self.waited:.2f} s for it; peak memory {self.peak:.0f} MiB"
        )


def drive(engines: int, pace: Pace, rows_each: int, facts: EngineFacts = FACTS) -> Driven:
    """One fleet, in this process, over so many rows an engine."""
    count = engines * rows_each
    with tempfile.TemporaryDirectory() as place:
        table = pa.table({"persona": [f"a quiet baker who counts {number} things" for number in range(count)]})
        rows, folder = PreparedRows(table, "pairs", "sha256:step"), Folder.open(Path(place).as_uri())
        writer = PartWriter(folder, "pairs", SCHEMA, 1, read_ledger(folder, rows, 1))
        spare_the_collector()
        fleet = Fleet(engines, pace, facts)
        jobs = {"pairs": TableJob("pairs", "sao", rows, writer)}
        cpu, own = time.process_time(), time.thread_time()
        Driver(jobs, fleet, Progress("benchmark"), threading.Event(), 100, clock=fleet.clock).run()
        cpu, own = time.process_time() - cpu - fleet.off, time.thread_time() - own - fleet.off
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = fleet.now
    when, done = fleet.all_out
    return Driven(done / when, count / seconds, cpu / count, cpu / seconds, own / seconds, fleet.waited, peak)


def resume(count: int) -> None:
    """Read back a step that has all its records."""
    with tempfile.TemporaryDirectory() as place:
        table = pa.table({"persona": [f"a quiet baker who counts {number} things" for number in range(count)]})
        rows, folder = PreparedRows(table, "pairs", "sha256:step"), Folder.open(Path(place).as_uri())
        writer = PartWriter(folder, "pairs", SCHEMA, 1, read_ledger(folder, rows, 1))
        made = {"persona": "p", "prompt": "q", "prompt_ids": [1, 2], "chosen": "a", "rejected": "b"}
        order = list(range(count))
        random.Random(0).shuffle(order)
        for start in range(0, count, 1024):
            sources = order[start : start + 1024]
            records = [
                Record(id, source, 1, "rows", rows=(made,))
                for id, source in zip(rows.ids(sources), sources, strict=True)
            ]
            writer.add(Batch.of(records, SCHEMA))
            writer.commit(1.0)
        begun, cpu = time.perf_counter(), time.process_time()
        ledger = read_ledger(folder, rows, 2)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        assert ledger.records == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"resume of {count} records in {len(ledger.parts)} parts: {seconds:.1f} s ({cpu:.1f} s of CPU), peak {peak:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engines", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--rate", type=float, default=16.0)
    parser.add_argument("--rows", type=int, default=1000, help="an engine")
    parser.add_argument("--resume", type=int, default=1_000_000)
    options = parser.parse_args()
    if len(options.engines) == 1 and not options.resume:
        engines = options.engines[0]
        driven = drive(engines, Pace.of_rate(options.rate), options.rows)
        cores = engines * options.rate * driven.record
        print(f"{engines} engines: {driven}; at {options.rate:.0f} records/s each {cores:.3f} of a core")
    elif not options.engines:
        resume(options.resume)
    else:  # each in a process of its own: the peak of memory is its own
        here = [sys.executable, __file__, "--rate", str(options.rate), "--rows", str(options.rows)]
        for engines in options.engines:
            subprocess.run([*here, "--engines", str(engines), "--resume", "0"], check=True)
        subprocess.run([*here, "--engines", "--resume", str(options.resume)], check=True)


if __name__ == "__main__":
    main()
