"""The driver: hands rows to workers, counts what comes back under a current lease, and alone writes.

It knows neither Ray nor vLLM: workers are a protocol, so that a test can lose, silence and revive them at will.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.errors import ConfigError, shown
from selfalign_jobs.generate.engine import EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import rows_held
from selfalign_jobs.generate.leases import Lease, Leases
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.generate.parts import PartWriter
from selfalign_jobs.generate.records import Batch, PreparedRows
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
    """A worker's word: what it finished since its last one, by table, and how full its engine's KV cache is."""

    worker: str
    batches: Mapping[str, Batch]
    kv_use: KvUse


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone with all that it held; it may come back as a new start."""

    worker: str
    why: str


Event = Started | Report | Lost


class Workers(Protocol):
    """Whatever runs flows for the driver."""

    def give(self, worker: str, tasks: list[Task]) -> None:
        """Hand rows to a worker."""

    def wait(self, seconds: float) -> list[Event]:
        """What happened; waits up to `seconds` for something to happen."""

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


def missing_rows(done: bytearray) -> Iterator[int]:
    """Numbers of the rows without a durable record."""
    return (source for source, mark in enumerate(done) if not mark)


@dataclass
class Driver:
    """Runs all jobs of one engine load to their end, on the workers that are there."""

    jobs: dict[str, TableJob]
    workers: Workers
    progress: Progress
    stop: threading.Event
    max_set_aside_percent: float
    clock: Callable[[], float] = time.monotonic
    facts: dict[str, EngineFacts] = field(default_factory=dict)  # of the workers that are there
    versions: dict[str, str] = field(default_factory=dict)  # of every engine that took part
    start_seconds: float = 0.0  # until the first engine was there
    _deaths: Counter[str] = field(default_factory=Counter)  # by worker, since the last record
    _made: deque[tuple[float, int]] = field(default_factory=deque)  # (time, tokens made) of late
    _committed_at: float = 0.0

    def run(self) -> None:
        """Until every row has a durable record.

        Raises Stopped on request, ConfigError when more records are set aside than the plan allows, Failed when workers
        only die. Whatever was accepted is durable in each case.
        """
        self._leases = Leases(self._missing())
        self._committed_at = self.clock()
        total = sum(len(job.rows) for job in self.jobs.values())
        try:
            self._await_engine()
            self.progress.begin("generate", total, "records", self._records())
            while self._records() < total:
                self._check_stop()
                for event in self.workers.wait(POLL_SECONDS):
                    self._handle(event)
                for worker in self._leases.silent(self.clock()):
                    self.workers.restart(worker)
                    self._lose(worker, "it gave no word")
                self._commit(only_due=True)
                for job in self.jobs.values():
                    check_set_aside(job, self.max_set_aside_percent)
        finally:
            self._commit(only_due=False)

    def _await_engine(self) -> None:
        """Until the first engine is there; later ones join while it works."""
        begun = self.clock()
        while not self.facts:
            self._check_stop()
            for event in self.workers.wait(POLL_SECONDS):
                self._handle(event)
        self._committed_at = self.clock()
        self.start_seconds = self._committed_at - begun

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise Stopped(f"{self._records()} records are durable; the same command goes on there")

    def _missing(self) -> dict[str, Iterator[int]]:
        return {out: missing_rows(job.writer.ledger.done) for out, job in self.jobs.items()}

    def _handle(self, event: Event) -> None:
        match event:
            case Started(worker, facts):
                self.facts[worker] = facts
                self.versions |= facts.versions
                self._top_up(worker)
            case Report(worker, batches, kv_use):
                self.progress.metrics.engine(worker, kv_use.share, kv_use.preemptions)
                self._leases.renew(worker, self.clock())
                for out, batch in batches.items():
                    self._accept(self.jobs[out], batch)
                self._top_up_all()
                self.progress.advance(self._records())
            case Lost(worker, why):
                self._lose(worker, why)

    def _top_up_all(self) -> None:
        for worker in self.facts:
            self._top_up(worker)

    def _top_up(self, worker: str) -> None:
        """Hand out rows until the worker's engine has enough to do till its next report."""
        room = rows_held(self.facts[worker]) - self._leases.held_by(worker)
        tasks: list[Task] = []
        while len(tasks) < room and (lease := self._leases.take(worker, self.clock())) is not None:
            tasks += self.jobs[lease.table].tasks(lease)
        if tasks:
            self.workers.give(worker, tasks)

    def _accept(self, job: TableJob, batch: Batch) -> None:
        counted = [
            self._leases.accept(lease, source) for lease, source in zip(batch.leases, batch.sources, strict=True)
        ]
        if not any(counted):
            return
        self._deaths.clear()
        lines, outcomes = batch.lines, batch.outcomes
        if not all(counted):
            sources = pa.array([source for source, counts in zip(batch.sources, counted, strict=True) if counts])
            lines = lines.filter(pc.is_in(lines["_source"], sources))
            outcomes = [outcome for outcome, counts in zip(outcomes, counted, strict=True) if counts]
        job.writer.add(lines, Counter(outcomes), batch.tokens)
        self._show(job, outcomes, batch.tokens)
        for result, number in verdict_results(lines).items():
            self.progress.metrics.verdicts.labels(result).inc(number)
        for position, number in verdict_positions(lines).items():
            self.progress.metrics.verdict_positions.labels(position).inc(number)

    def _show(self, job: TableJob, outcomes: list[tuple[str, str | None]], tokens: dict[str, list[int]]) -> None:
        metrics = self.progress.metrics
        for (status, reason), number in Counter(outcomes).items():
            metrics.records.labels(job.flow, status, reason or "").inc(number)
        for role, (taken, made) in tokens.items():
            metrics.tokens.labels(role, "in").inc(taken)
            metrics.tokens.labels(role, "out").inc(made)
        now = self.clock()
        self._made.append((now, sum(made for _, made in tokens.values())))
        while self._made[0][0] < now - RATE_SECONDS:
            self._made.popleft()
        rate = sum(made for _, made in self._made) / max(now - self._made[0][0], 1.0)
        metrics.tokens_per_second.set(rate)
        self.progress.show(tokensPerSecond=round(rate, 1))

    def _lose(self, worker: str, why: str) -> None:
        self.facts.pop(worker, None)
        self.progress.metrics.engine_lost(worker)
        self._leases.drop(worker)
        self._deaths[worker] += 1
        if self._deaths[worker] >= DEATHS_WITHOUT_PROGRESS:
            times = f"{worker} was lost {self._deaths[worker]} times and no record was made between"
            raise Failed("generation", f"{why} ({times})")
        self._top_up_all()

    def _commit(self, *, only_due: bool) -> None:
        for job in self.jobs.values():
            if job.writer.due or not only_due:
                now = self.clock()
                job.writer.commit(now - self._committed_at)
                self._committed_at = now

    def _records(self) -> int:
        return sum(job.records for job in self.jobs.values())


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
