"""Benchmark: the driver with many engines: CPU a second, memory, and how long it takes to read a million records back.

    python benchmarks/generate_fleet.py [--engines 1 8 64] [--rate 16] [--seconds 120] [--resume 1000000]

The driver, its leases and shares, the writer and the store's files are real; engines are played, on a clock of theirs:
each finishes `rate` records a second of SAO with two answers of 400 tokens, and speaks every slice. Its reports are made
and pickled off the account, as an actor does elsewhere; reading them, and writing parts in the committing thread, is on it.
"""

from __future__ import annotations

import argparse
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
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign_jobs.generate.driver import Driver, Event, Report, Started, TableJob
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import SLICE_SECONDS
from selfalign_jobs.generate.loop import Task, spare_the_collector
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.records import Batch, PreparedRows, Record
from selfalign_jobs.places.store import Folder
from selfalign_jobs.recipes.sao import RECIPE
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.progress import Progress

SCHEMA = RECIPE.flows["sao"].schema
ANSWER_TOKENS, PROMPT_TOKENS, VOCABULARY = 400, 70, 128_000
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


class Fleet:
    """Engines on a clock of their own (`driver.Workers`), which ends the driver after its seconds."""

    def __init__(self, engines: int, rate: float, seconds: float, stop: threading.Event) -> None:
        self.names = [f"engine-{number}" for number in range(engines)]
        self.now = 0.0
        self.off = 0.0  # CPU that is theirs, not the driver's
        self.reports = 0
        self._held: dict[str, deque[Task]] = {name: deque() for name in self.names}
        self._part = dict.fromkeys(self.names, 0.0)  # of a record, done
        self._rate, self._seconds, self._stop = rate, seconds, stop
        self._rows = rows_of_sao(64)

    def give(self, worker: str, tasks: list[Task]) -> None:
        self._held[worker].extend(tasks)

    def take_back(self, worker: str, rows: int) -> None:
        raise AssertionError(f"{worker} is asked for {rows} rows, which never run out here")

    def restart(self, worker: str) -> None:
        raise AssertionError(worker)

    def wait(self, seconds: float) -> Iterator[Event]:  # noqa: ARG002
        if self.now == 0.0:
            for name in self.names:
                yield Started(name, EngineFacts(8192, 1024, 0.0, versions={"played": "1"}))
        self.now += SLICE_SECONDS
        for name in self.names:
            before = time.thread_time()
            pickled, buffers = self._work(name)
            self.off += time.thread_time() - before
            self.reports += 1
            yield Report(name, pickle.loads(pickled, buffers=buffers), KvUse(0.5, 0))
        if self.now >= self._seconds:
            self._stop.set()

    def _work(self, name: str) -> tuple[bytes, list[Any]]:
        self._part[name] += self._rate * SLICE_SECONDS
        ended, self._part[name] = divmod(self._part[name], 1)
        tasks = [self._held[name].popleft() for _ in range(int(ended))]
        records = [
            Record(
                task.record,
                task.source,
                task.lease,
                "rows",
                rows=(self._rows[task.source % len(self._rows)],),
                tokens={"respond": [PROMPT_TOKENS, 2 * ANSWER_TOKENS]},
            )
            for task in tasks
        ]
        buffers: list[Any] = []
        batches = {"pairs": Batch.of(records, SCHEMA)} if records else {}
        return pickle.dumps(batches, protocol=5, buffer_callback=buffers.append), buffers


def drive(engines: int, rate: float, seconds: float) -> None:
    """One fleet, in this process: prints its figures."""
    count = int(engines * (rate * seconds + 2048))
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as place:
        table = pa.table({"persona": [f"a quiet baker who counts {number} things" for number in range(count)]})
        rows, folder = PreparedRows(table, "pairs", "sha256:step"), Folder.open(Path(place).as_uri())
        writer = PartWriter(folder, "pairs", SCHEMA, 1, read_ledger(folder, rows, 1))
        fleet = Fleet(engines, rate, seconds, stop)
        job = TableJob("pairs", "sao", rows, writer)
        driver = Driver({"pairs": job}, fleet, Progress("benchmark"), stop, 100, clock=lambda: fleet.now)
        spare_the_collector()
        cpu, own = time.process_time(), time.thread_time()
        with suppress(Stopped):
            driver.run()
        cpu, own = time.process_time() - cpu - fleet.off, time.thread_time() - own - fleet.off
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{engines} engines, {writer.ledger.records / seconds:.0f} records/s: {cpu / seconds:.3f} of a core "
        f"({own / seconds:.3f} in the driver's thread, {1e6 * own / fleet.reports:.0f} us a report); peak memory {peak:.0f} MiB"
    )


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
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--resume", type=int, default=1_000_000)
    options = parser.parse_args()
    if len(options.engines) == 1 and not options.resume:
        drive(options.engines[0], options.rate, options.seconds)
    elif not options.engines:
        resume(options.resume)
    else:  # each in a process of its own: the peak of memory is its own
        here = [sys.executable, __file__, "--rate", str(options.rate), "--seconds", str(options.seconds)]
        for engines in options.engines:
            subprocess.run([*here, "--engines", str(engines), "--resume", "0"], check=True)
        subprocess.run([*here, "--engines", "--resume", str(options.resume)], check=True)


if __name__ == "__main__":
    main()
