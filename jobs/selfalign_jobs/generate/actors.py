"""Ray actors: one engine each, which dies with its actor; Ray starts a lost one again, here or on another node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import FAILED
from selfalign_jobs.generate.crew import Crew, engines_of
from selfalign_jobs.generate.driver import Event, Lost, Report, Started
from selfalign_jobs.generate.engine import EngineFacts
from selfalign_jobs.generate.guard import guard_children
from selfalign_jobs.generate.host import EngineHost, HostSetup, Word
from selfalign_jobs.generate.in_flight import EXCHANGES
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.generate.session import ray_resources
from selfalign_jobs.step.failure import Failed, kind_of
from selfalign_jobs.step.words import words_of

AGAIN_SECONDS = 1.0  # between two tries to reach an actor of a node that may be lost


class EngineActor:
    """One worker of the driver's: an engine, or several of a small model that share a GPU."""

    def __init__(self, setup: HostSetup) -> None:
        self._setup = setup
        self._host: EngineHost | Crew | None = None

    def start(self) -> EngineFacts:
        """Load tokenizer and engine. An actor that has one ends instead: the driver lost it, and Ray starts it anew."""
        if self._host is not None:
            os._exit(1)
        guard_children()
        model = self._setup.locate()
        os.environ.update(self._setup.environment())
        engines = engines_of(model, self._setup.means)
        self._host = EngineHost(self._setup, model) if engines == 1 else Crew(self._setup, model, engines)
        return self._host.facts

    def exchange(self, tasks: list[Task], back: int) -> Word:
        """Take rows, give back up to `back` that are not begun, work for a while, and report what has finished."""
        assert self._host is not None
        return self._host.exchange(tasks, back)


@dataclass
class _Worker:
    """An actor as the pool sees it. `life` changes with every start, so that an old life's answers are not read."""

    handle: Any
    life: int = 0
    ready: bool = False
    owed: int = 0
    queued: list[Task] = field(default_factory=list)
    back: int = 0  # rows to ask back with the next exchange
    exchanges: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """What an actor was asked."""

    worker: str
    life: int
    is_start: bool
    back: int
    answer: Future[Any]


class RayWorkers:
    """The actors of one engine load (`driver.Workers`)."""

    def __init__(self, setup: HostSetup) -> None:
        means = setup.means
        resources = ray_resources(means)
        options: dict[str, Any] = {
            "num_cpus": resources["num_cpus"],
            "num_gpus": resources["num_gpus"],
            "scheduling_strategy": "SPREAD",  # where a node has room for several: one on each that is there, first
            "max_restarts": -1,
            "max_task_retries": 0,  # an exchange is never repeated: its rows are leased again
        }
        actor = ray.remote(EngineActor).options(**options)
        # The setup goes by value: an actor could not be restarted once an object of this driver is lost (ray#53727).
        self._workers = {f"engine-{number}": _Worker(actor.remote(setup)) for number in range(means.replicas)}
        self._answered: SimpleQueue[_Call] = SimpleQueue()  # by Ray's own thread: no call waits behind another's
        self._to_ask: dict[str, None] = {}  # whose next exchange is due
        self._to_start: dict[str, float] = {}  # when, where that must wait
        for name in self._workers:
            self._start(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, there or not."""
        return tuple(self._workers)

    def give(self, worker: str, tasks: list[Task]) -> None:
        """Hand rows to an actor, with its next exchange."""
        self._workers[worker].queued += tasks
        self._workers[worker].owed += len(tasks)
        self._to_ask[worker] = None

    def take_back(self, worker: str, rows: int) -> None:
        """Ask for rows that an actor has not begun, with its next exchange."""
        self._workers[worker].back = rows
        self._to_ask[worker] = None

    def wait(self, seconds: float) -> Iterator[Event]:
        """What the actors say."""
        for name in [name for name, due in self._to_start.items() if due <= time.monotonic()]:
            self._start(name)
        self._exchange()
        calls = []
        with suppress(Empty):
            calls.append(self._answered.get(timeout=seconds))
            while True:
                calls.append(self._answered.get_nowait())
        for call in calls:  # one after another: what is dealt in between is not for a life that has ended
            if (event := self._read(call)) is not None:
                yield event

    def restart(self, worker: str) -> None:
        """Kill a silent actor's process; Ray starts it again."""
        ray.kill(self._workers[worker].handle, no_restart=False)
        self._start(worker)

    def close(self) -> None:
        """End all actors, and their engines with them."""
        for worker in self._workers.values():
            ray.kill(worker.handle)

    def _start(self, name: str) -> None:
        """A new life; when Ray restarts the actor, the call waits for that."""
        self._forget(name)
        self._call(name, self._workers[name].handle.start.remote(), is_start=True)

    def _call(self, name: str, ref: Any, *, is_start: bool = False, back: int = 0) -> None:
        future = ref.future()
        call = _Call(name, self._workers[name].life, is_start, back, future)
        future.add_done_callback(lambda _: self._answered.put(call))

    def _forget(self, name: str) -> None:
        """What its life before this one was asked, or owes."""
        worker = self._workers[name]
        worker.life += 1
        worker.ready = False
        worker.owed, worker.queued, worker.back, worker.exchanges = 0, [], 0, 0
        self._to_start.pop(name, None)

    def _exchange(self) -> None:
        for name in self._to_ask:
            worker = self._workers[name]
            while worker.ready and worker.owed and worker.exchanges < EXCHANGES:
                self._call(name, worker.handle.exchange.remote(worker.queued, worker.back), back=worker.back)
                worker.queued, worker.back = [], 0
                worker.exchanges += 1
        self._to_ask.clear()

    def _read(self, call: _Call) -> Event | None:
        name = call.worker
        worker = self._workers[name]
        if call.life != worker.life:
            return None
        try:
            answer = call.answer.result()
        except RayTaskError as error:
            if isinstance(error.cause, ConfigError):
                raise error.cause from None
            if (kind := kind_of(error)) is not None and kind.code != FAILED:  # another start would end the same way
                raise Failed("generation", words_of(error)) from None
            self.restart(name)  # an engine that has raised once is not trusted with another batch
            return Lost(name, words_of(error))
        except ActorUnavailableError as error:
            # Its node is gone, perhaps, which Ray knows for certain a quarter of a minute later: no further loss till then.
            self._forget(name)
            self._to_start[name] = time.monotonic() + AGAIN_SECONDS
            return None if call.is_start else Lost(name, words_of(error))
        except RayActorError as error:
            self._start(name)
            return Lost(name, words_of(error))
        if call.is_start:
            worker.ready = True
            return Started(name, answer)
        worker.exchanges -= 1
        worker.owed -= sum(len(batch.sources) for batch in answer.batches.values()) + len(answer.given_back)
        self._to_ask[name] = None
        return Report(name, answer.batches, answer.kv_use, answer.given_back if call.back else None)
