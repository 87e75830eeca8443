"""Ray actors: one engine each, which dies with its actor; Ray starts a lost one again, here or on another node."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import FAILED
from selfalign_api.plan import FlowJob
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.chat import Chat
from selfalign_jobs.generate.driver import Event, Lost, Report, Started
from selfalign_jobs.generate.engine import Engine, EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import EXCHANGES, SLICE_SECONDS, max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.records import Batch
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.session import ray_resources
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.step.failure import Failed, kind_of
from selfalign_jobs.step.words import words_of

AGAIN_SECONDS = 1.0  # between two tries to reach an actor of a node that may be lost


@dataclass(frozen=True)
class ActorSetup:
    """All that an actor needs to run flows."""

    locate: Callable[[], Path]  # the model's folder on the actor's node, fetched there if need be
    make_chat: Callable[[Path], Chat]
    make_engine: Callable[[Path], Engine]
    jobs: Mapping[str, FlowJob]  # by the table that each makes
    flows: Mapping[str, FlowDef]  # by the same
    run_seed: int
    environment: Callable[[], Mapping[str, str]]  # of its process, before the engine's libraries are imported


class EngineActor:
    """One engine and the flows on it."""

    def __init__(self, setup: ActorSetup) -> None:
        self._setup = setup
        self._loop: FlowLoop | None = None
        self._engine: Engine | None = None

    def start(self) -> EngineFacts:
        """Load tokenizer and engine. An actor that has one ends instead: the driver lost it, and Ray starts it anew."""
        if self._loop is not None:
            os._exit(1)
        setup = self._setup
        model = setup.locate()
        os.environ.update(setup.environment())
        chat = setup.make_chat(model)
        engine = self._engine = setup.make_engine(model)
        facts = engine.facts
        self._loop = FlowLoop(
            engine,
            {
                out: JobSetup(
                    job, setup.flows[out].run, Renderer(chat, job.roles, facts.context_tokens), setup.run_seed
                )
                for out, job in setup.jobs.items()
            },
            max_open_flows(facts),
        )
        spare_the_collector()
        return facts

    def exchange(self, tasks: list[Task]) -> tuple[dict[str, Batch], KvUse]:
        """Take rows, work for a while, and report what has finished."""
        loop, engine = self._loop, self._engine
        assert loop is not None and engine is not None
        loop.add(tasks)
        until = time.monotonic() + SLICE_SECONDS
        while loop.unfinished and time.monotonic() < until:
            loop.advance()
        batches = {
            out: Batch.of(records, self._setup.flows[out].schema)
            for out, records in loop.take_finished().items()
            if records
        }
        return batches, engine.kv_use()


@dataclass
class _Worker:
    """An actor as the pool sees it. `life` changes with every start, so that an old life's answers are not read."""

    handle: Any
    life: int = 0
    ready: bool = False
    start_at: float | None = None  # when to start it, where that must wait
    owed: int = 0
    queued: list[Task] = field(default_factory=list)
    exchanges: int = 0


class RayWorkers:
    """The actors of one engine load (`driver.Workers`)."""

    def __init__(self, setup: ActorSetup, means: GenerationMeans) -> None:
        resources = ray_resources(means, engines=1)
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
        self._calls: dict[Any, tuple[str, int, bool]] = {}  # ref -> worker, its life, whether it is a start
        for name in self._workers:
            self._start(name)

    def give(self, worker: str, tasks: list[Task]) -> None:
        """Hand rows to an actor, with its next exchange."""
        self._workers[worker].queued += tasks
        self._workers[worker].owed += len(tasks)

    def wait(self, seconds: float) -> list[Event]:
        """What the actors say."""
        self._start_due()
        self._exchange()
        if not self._calls:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        return [event for ref in ready if (event := self._read(ref)) is not None]

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
        worker = self._workers[name]
        self._calls[worker.handle.start.remote()] = (name, worker.life, True)

    def _forget(self, name: str) -> None:
        """What its life before this one was asked, or owes."""
        worker = self._workers[name]
        worker.life += 1
        worker.ready, worker.start_at = False, None
        worker.owed, worker.queued, worker.exchanges = 0, [], 0

    def _start_due(self) -> None:
        now = time.monotonic()
        for name, worker in self._workers.items():
            if worker.start_at is not None and worker.start_at <= now:
                self._start(name)

    def _exchange(self) -> None:
        for name, worker in self._workers.items():
            while worker.ready and worker.owed and worker.exchanges < EXCHANGES:
                self._calls[worker.handle.exchange.remote(worker.queued)] = (name, worker.life, False)
                worker.queued = []
                worker.exchanges += 1

    def _read(self, ref: Any) -> Event | None:
        name, life, is_start = self._calls.pop(ref)
        worker = self._workers[name]
        if life != worker.life:
            return None
        try:
            answer = ray.get(ref)
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
            worker.start_at = time.monotonic() + AGAIN_SECONDS
            return None if is_start else Lost(name, words_of(error))
        except RayActorError as error:
            self._start(name)
            return Lost(name, words_of(error))
        if is_start:
            worker.ready = True
            return Started(name, answer)
        worker.exchanges -= 1
        batches, kv_use = answer
        worker.owed -= sum(len(batch.sources) for batch in batches.values())
        return Report(name, batches, kv_use)
