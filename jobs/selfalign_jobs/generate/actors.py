"""Ray actors: one engine each, which dies with its actor; Ray starts a lost one again, here or on another node."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from selfalign_api.errors import ConfigError
from selfalign_api.plan import FlowJob, GenerationMeans
from selfalign_jobs.generate.driver import Batch, Event, Lost, Report, Started
from selfalign_jobs.generate.engine import Engine, EngineFacts
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, max_open_flows, spare_the_collector
from selfalign_jobs.generate.render import Chat, Renderer
from selfalign_jobs.recipes.base import FlowDef

SLICE_SECONDS = 0.2  # how long an actor works before it gives word
EXCHANGES = 2  # exchanges under way with an actor: while the driver reads one, the engine works on the next
OBJECT_STORE_BYTES = 128 << 20  # local: reports are small and read at once


@dataclass(frozen=True)
class ActorSetup:
    """All that an actor needs to run flows."""

    make_chat: Callable[[], Chat]
    make_engine: Callable[[], Engine]
    jobs: Mapping[str, FlowJob]  # by the table that each makes
    flows: Mapping[str, FlowDef]  # by the same
    run_seed: int


class EngineActor:
    """One engine and the flows on it."""

    def __init__(self, setup: ActorSetup) -> None:
        self._setup = setup

    def start(self) -> EngineFacts:
        """Load tokenizer and engine."""
        setup = self._setup
        chat = setup.make_chat()
        engine = setup.make_engine()
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

    def exchange(self, tasks: list[Task]) -> dict[str, Batch]:
        """Take rows, work for a while, and report what has finished."""
        self._loop.add(tasks)
        until = time.monotonic() + SLICE_SECONDS
        while self._loop.unfinished and time.monotonic() < until:
            self._loop.advance()
        return {
            out: Batch.of(records, self._setup.flows[out].schema)
            for out, records in self._loop.take_finished().items()
            if records
        }


@dataclass
class _Worker:
    """An actor as the pool sees it. `life` changes with every start, so that an old life's answers are not read."""

    handle: Any
    life: int = 0
    ready: bool = False
    owed: int = 0
    queued: list[Task] = field(default_factory=list)
    exchanges: int = 0


class RayWorkers:
    """The actors of one engine load (`driver.Workers`)."""

    def __init__(self, setup: ActorSetup, means: GenerationMeans, runtime_env: Mapping[str, Any]) -> None:
        options: dict[str, Any] = {
            "num_cpus": 1,
            "num_gpus": means.tensor_parallel_size if means.device == "GPU" else 0,
            "max_restarts": -1,
            "max_task_retries": 0,  # an exchange is never repeated: its rows are leased again
            "runtime_env": dict(runtime_env),
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
        worker = self._workers[name]
        worker.life += 1
        worker.ready, worker.owed, worker.queued, worker.exchanges = False, 0, [], 0
        self._calls[worker.handle.start.remote()] = (name, worker.life, True)

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
            self.restart(name)  # an engine that has raised once is not trusted with another batch
            return Lost(name, str(error))
        except RayActorError as error:
            self._start(name)  # waits until Ray has restarted the actor
            return Lost(name, str(error))
        if is_start:
            worker.ready = True
            return Started(name, answer)
        worker.exchanges -= 1
        worker.owed -= sum(len(batch.sources) for batch in answer.values())
        return Report(name, answer)


@contextmanager
def ray_session(means: GenerationMeans, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Ray for one step: the cluster that RAY_ADDRESS names, or one of our own on this machine, gone at the end.

    Gives the runtime environment in which actors get `environment`. On this machine they inherit it, and so take the
    workers that Ray has started already, in place of new ones.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run reports to nobody
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    runtime_env: dict[str, Any] = {}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.ERROR)
        runtime_env = {"env_vars": dict(environment)}
    else:
        os.environ.update(environment)
        ray.init(
            address="local",  # unset, Ray joins any cluster that is, or was, on this machine
            num_cpus=means.replicas,
            num_gpus=means.replicas * means.tensor_parallel_size if means.device == "GPU" else 0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
        )
    for number, handler in handlers.items():  # Ray takes them over; the step's own set the stop flag
        signal.signal(number, handler)
    try:
        yield runtime_env
    finally:
        ray.shutdown()
