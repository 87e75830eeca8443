"""The driver: hands rows to workers, counts what comes back under a current lease, and alone writes.

It knows neither Ray nor vLLM: workers are a protocol, so that a test can lose, silence and revive them at will.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from selfalign_api.errors import ConfigError, shown
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.leases import Lease, Leases
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.generate.parts import PartWriter
from selfalign_jobs.generate.records import Batch, PreparedRows
from selfalign_jobs.generate.shares import Shares
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.failure import Failed
from selfalign_jobs.step.progress import Progress

POLL_SECONDS = 0.2
DEATHS_WITHOUT_PROGRESS = 3  # a worker lost so often, with no record of anyone's between: the step fails
FIRST_DETAILS = 3  # of the records that were set aside, told when they are too many
RATE_SECONDS = 10.0  # tokens a second are shown over this window


@dataclass(frozen=True, slots=True)
class Started:
    """A worker's engine is there."""

    worker: str
    facts: EngineFacts


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's word: what it finished since its last one, by table, and how full its engine's KV cache is.

    Where it was asked, also what it gives back: lease and number of rows that it has not begun.
    """

    worker: str
    batches: Mapping[str, Batch]
    kv_use: KvUse
    given_back: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone with all that it held; it may come back as a new start."""

    worker: str
    why: str


Event = Started | Report | Lost


class Workers(Protocol):
    """Whatever runs flows for the driver."""

    @property
    def names(self) -> Sequence[str]:
        """All that were asked for, those that are not there yet too."""

    def give(self, worker: str, tasks: list[Task]) -> None:
        """Hand rows to a worker."""

    def take_back(self, worker: str, rows: int) -> None:
        """Ask a worker for rows that it has not begun, at most so many; it answers with a report."""

    def wait(self, seconds: float) -> Iterable[Event]:
        """What happened; waits up to `seconds` for something to happen. Each is read once the one before is dealt with."""

    def restart(self, worker: str) -> None:
        """End a silent worker; it comes back as a new start."""


@dataclass
class TableJob:
    """A flow job as the driver sees it: the prepared rows, and where the records go."""

    out: str
    flow: str
    rows: PreparedRows
    writer: PartWriter

    def tasks(self, lease: Lease) -> list[Task]:
        """A lease's rows as the workers take them."""
        sources = list(lease.rows)
        return [
            Task(self.out, source, self.rows.id(source, row), lease.number, row)
            for source, row in zip(sources, self.rows.rows(sources), strict=True)
        ]

    @property
    def records(self) -> int:
        """Records accepted so far, durable or not."""
        return self.writer.ledger.records + self.writer.pending


@dataclass
class Driver:
    """Runs all jobs of one engine load to their end, on the workers that are there."""

    jobs: dict[str, TableJob]
    workers: Workers
    progress: Progress
    stop: threading.Event
    max_set_aside_percent: float
    clock: Callable[[], float] = time.monotonic
    versions: dict[str, str] = field(default_factory=dict)  # of every engine that took part
    start_seconds: float = 0.0  # until the first engine was there
    _deaths: Counter[str] = field(default_factory=Counter)  # by worker, since the last record
    _made: deque[tuple[float, int]] = field(default_factory=deque)  # (time, tokens made) of late
    _made_lately: int = 0
    _committed_at: float = 0.0

    def run(self) -> None:
        """Until every row has a durable record.

        Raises Stopped on request, ConfigError when more records are set aside than the plan allows, Failed when workers
        only die. Whatever was accepted is durable in each case.
        """
        self._leases = Leases({out: job.writer.ledger.done for out, job in self.jobs.items()})
        self._shares = Shares(self._leases, self.workers.names, self.clock())
        self._committed_at = self.clock()
        total = sum(len(job.rows) for job in self.jobs.values())
        with ThreadPoolExecutor(1, "commits") as committer:
            try:
                self._await_engine()
                self.progress.begin("generate", total, "records", self._records())
                while self._leases.unfinished:
                    self._check_stop()
                    for event in self.workers.wait(POLL_SECONDS):
                        self._handle(event)
                    for worker in self._leases.silent(self.clock()):
                        self.workers.restart(worker)
                        self._lose(worker, "it gave no word")
                    for job in self.jobs.values():
                        self._commit(job, committer)
                        check_set_aside(job, self.max_set_aside_percent)
            finally:
                for job in self.jobs.values():
                    job.writer.commit(self._seconds())

    def _await_engine(self) -> None:
        """Until the first engine is there; later ones join while it works."""
        begun = self.clock()
        while not self._shares.any_there:
            self._check_stop()
            for event in self.workers.wait(POLL_SECONDS):
                self._handle(event)
        self._committed_at = self.clock()
        self.start_seconds = self._committed_at - begun

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise Stopped(f"{self._records()} records are durable; the same command goes on there")

    def _handle(self, event: Event) -> None:
        match event:
            case Started(worker, facts):
                self.versions |= facts.versions
                self._shares.join(worker, facts, self.clock())
                self._deal(worker)
            case Report(worker, batches, kv_use, given_back):
                self.progress.metrics.engine(worker, kv_use.share, kv_use.preemptions)
                self._leases.renew(worker, self.clock())
                for out, batch in batches.items():
                    self._accept(self.jobs[out], batch)
                for lease, row in given_back or ():
                    self._leases.give_back(lease, row)
                finished = sum(len(batch.sources) for batch in batches.values())
                self._shares.word(worker, finished, answers=given_back is not None)
                self._deal(worker)
                self.progress.advance(self._records())
            case Lost(worker, why):
                self._lose(worker, why)

    def _deal(self, worker: str | None) -> None:
        """Tell workers what they are to begin, and to give back, after a word of this one."""
        deal = self._shares.deal(worker, self.clock())
        for name, leases in deal.given.items():
            self.workers.give(name, [task for lease in leases for task in self.jobs[lease.table].tasks(lease)])
        for name, rows in deal.back.items():
            self.workers.take_back(name, rows)

    def _accept(self, job: TableJob, batch: Batch) -> None:
        counted = [
            self._leases.accept(lease, source) for lease, source in zip(batch.leases, batch.sources, strict=True)
        ]
        if not any(counted):
            return
        self._deaths.clear()
        if not all(counted):
            batch = batch.only(counted)
        job.writer.add(batch)
        self._show(job, batch)
        for result, number in batch.verdicts.items():
            self.progress.metrics.verdicts.labels(result).inc(number)
        for position, number in batch.preferred.items():
            self.progress.metrics.verdict_positions.labels(position).inc(number)

    def _show(self, job: TableJob, batch: Batch) -> None:
        metrics = self.progress.metrics
        for (status, reason), number in Counter(batch.outcomes).items():
            metrics.records.labels(job.flow, status, reason or "").inc(number)
        for role, (taken, made) in batch.tokens.items():
            metrics.tokens.labels(role, "in").inc(taken)
            metrics.tokens.labels(role, "out").inc(made)
        now, made = self.clock(), sum(made for _, made in batch.tokens.values())
        self._made.append((now, made))
        self._made_lately += made
        while self._made[0][0] < now - RATE_SECONDS:
            self._made_lately -= self._made.popleft()[1]
        rate = self._made_lately / max(now - self._made[0][0], 1.0)
        metrics.tokens_per_second.set(rate)
        self.progress.show(tokensPerSecond=round(rate, 1))

    def _lose(self, worker: str, why: str) -> None:
        self.progress.metrics.engine_lost(worker)
        self._shares.leave(worker, self.clock())
        self._leases.drop(worker)
        self._deaths[worker] += 1
        if self._deaths[worker] >= DEATHS_WITHOUT_PROGRESS:
            times = f"{worker} was lost {self._deaths[worker]} times and no record was made between"
            raise Failed("generation", f"{why} ({times})")
        self._deal(None)

    def _commit(self, job: TableJob, committer: Executor) -> None:
        """Have a part written that is due, in a thread of its own: a put to a bucket takes a second."""
        job.writer.settle(wait=job.writer.behind)
        if job.writer.due:
            job.writer.begin(self._seconds(), committer)

    def _seconds(self) -> float:
        """Active time since it was last asked, which goes on a part's account."""
        before, self._committed_at = self._committed_at, self.clock()
        return self._committed_at - before

    def _records(self) -> int:
        return sum(job.records for job in self.jobs.values())


def check_set_aside(job: TableJob, percent: float) -> None:
    """Raise ConfigError when more than `percent` % of a table's rows are set aside (dropped records do not count)."""
    aside = {reason: number for (status, reason), number in job.writer.outcomes.items() if status == "set-aside"}
    if sum(aside.values()) * 100 > percent * len(job.rows):
        counts = ", ".join(f"{reason}: {number}" for reason, number in sorted(aside.items(), key=str))
        raise ConfigError.one(
            "spec.generation.maxSetAsidePercent",
            f"is exceeded: {sum(aside.values())} of {len(job.rows)} records of {job.out} were set aside ({counts}); "
            f"{_first_words(job.writer)}each says why in {job.writer.place} (`_detail`): mend the template or the rows, "
            "or write a larger share",
            percent,
        )


def _first_words(writer: PartWriter) -> str:
    """The first records that were set aside, each with its row, its reason and what was known."""
    told = [
        f"row {source}: {reason}" + (f" ({shown(detail)})" if detail else "")
        for source, reason, detail in writer.set_aside(FIRST_DETAILS)
    ]
    return "the first are " + ", ".join(told) + "; " if told else ""
