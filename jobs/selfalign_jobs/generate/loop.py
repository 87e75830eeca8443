"""The loop: many flows open at once, all their requests in one running batch, no barrier between roles."""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfalign_api.plan import FlowJob
from selfalign_jobs.flow import (
    Ask,
    Comparison,
    Continue,
    Ended,
    Flow,
    Given,
    Likelihood,
    Likely,
    Ranking,
    Reply,
    Request,
    Row,
    Scores,
    SetAside,
    Vector,
    Write,
)
from selfalign_jobs.generate.embed_render import EmbedRenderer
from selfalign_jobs.generate.engine import (
    Engine,
    EngineRequest,
    EngineResult,
)
from selfalign_jobs.generate.engine import (
    Task as EngineTask,
)
from selfalign_jobs.generate.records import DETAIL_CHARACTERS, Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import PairRenderer, ScoreRenderer
from selfalign_jobs.template import render_template


@dataclass(frozen=True)
class JobSetup:
    """A flow job, ready to run: its flow, and what renders its requests for the model that answers them."""

    job: FlowJob
    flow: Flow
    renderer: Renderer | ScoreRenderer | PairRenderer | EmbedRenderer
    run_seed: int


@dataclass(slots=True)
class Task:
    """One row to run: of which job, its number in the prepared table, its record's id, the lease it is handed out under."""

    job: str  # the table that the job makes
    source: int
    record: str
    lease: int
    row: Row


@dataclass(slots=True)
class _Open:
    """A flow under way, and the replies to its last yield as they come."""

    task: Task
    setup: JobSetup
    flow: Generator[Any, Any, Sequence[Row]]
    several: bool = False  # whether the last yield was a list
    replies: list[Reply | None] = field(default_factory=list)
    waiting: int = 0
    tokens: dict[str, list[int]] = field(default_factory=dict)


def spare_the_collector() -> None:
    """Once a process has loaded its model: keep Python's cycle collector off what stays, and from running all the time.

    Open flows are many small objects that reference counting frees; looking through them for cycles took a third of
    the loop's time (benchmarks/README.md, Generation).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class FlowLoop:
    """Advances flows against one engine.

    At most `max_open` flows are open: enough that the engine always has requests waiting, few enough that a record,
    once begun, is soon done and durable. Without `host_seconds`, finished requests gather until the engine would have an
    empty slot: rendering and reading a few at a time between two steps costs twice as much where both compute on the same
    cores (cold caches; benchmarks/README.md, Generation). With it, what has arrived is read before every step, for so many
    seconds at most: the engine has one step queued, and is idle once the host takes longer than that step.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Mapping[str, JobSetup],
        max_open: int,
        host_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._max_open = max_open
        self._host_seconds = host_seconds
        self._clock = clock
        self._queue: deque[Task] = deque()
        # request id -> its flow, its place in the flow's list, what was asked, and the rendered prompt
        self._waiting_for: dict[str, tuple[_Open, int, Request, list[int]]] = {}
        self._arrived: dict[str, EngineResult] = {}  # answered, and not yet read
        self._open = 0
        self._requests = 0
        self._sequences = 0  # that the engine has, running or waiting
        self._finished: dict[str, list[Record]] = {name: [] for name in jobs}

    @property
    def unfinished(self) -> int:
        """Rows that were added and have no record yet."""
        return len(self._queue) + self._open

    def add(self, tasks: Sequence[Task]) -> None:
        """Rows to run, in order."""
        self._queue.extend(tasks)

    def give_back(self, most: int) -> list[tuple[int, int]]:
        """The last rows that are not begun, at most so many, by lease and number: another engine will run them."""
        tasks = [self._queue.pop() for _ in range(min(most, len(self._queue)))]
        return [(task.lease, task.source) for task in tasks]

    def advance(self) -> None:
        """One step of the engine, after its turn of reading answers and beginning flows."""
        if self._host_seconds is not None:
            self._read(self._clock() + self._host_seconds)
        elif self._sequences < self._engine.facts.max_sequences:
            self._read(math.inf)
        if self._sequences:
            for result in self._engine.step():
                self._arrived[result.id] = result
                self._sequences -= _sequences(self._waiting_for[result.id][2])

    def _read(self, until: float) -> None:
        """All that has arrived, then new flows, as far as the time goes; one of them in any case."""
        while self._arrived or (self._queue and self._open < self._max_open):
            if self._arrived:
                self._receive(self._arrived.pop(next(iter(self._arrived))))
            else:
                self._begin(self._queue.popleft())
            if self._clock() >= until:
                return

    def take_finished(self) -> dict[str, list[Record]]:
        """The records that ended since the last call, by job."""
        finished, self._finished = self._finished, {name: [] for name in self._jobs}
        return finished

    def _begin(self, task: Task) -> None:
        setup = self._jobs[task.job]
        ask = Ask(setup.job, setup.run_seed, task.record, render_template)
        self._open += 1
        self._resume(_Open(task, setup, setup.flow(task.row, ask)), None)

    def _resume(self, flow: _Open, reply: Any) -> None:
        """Send a reply (or throw an `Ended`) into a flow, until it waits for the engine or ends."""
        while True:
            try:
                yielded = flow.flow.throw(reply) if isinstance(reply, Ended) else flow.flow.send(reply)
            except StopIteration as stop:
                self._end(flow, stop.value)
                return
            except Ended as ended:
                self._end(flow, ended)
                return
            except Exception as error:  # a recipe's mistake costs its record, never the run
                self._end(flow, SetAside("flow failed", f"{type(error).__name__}: {error}"))
                return
            flow.several = isinstance(yielded, list)
            requests = yielded if flow.several else [yielded]
            if not requests:
                reply = []
                continue
            renderer = flow.setup.renderer
            try:  # all, before any is submitted
                given = _given(renderer, requests)
                asked = {place: (r, *renderer.render(r)) for place, r in enumerate(requests) if place not in given}
            except SetAside as too_long:  # the flow may catch it and ask for something else
                reply = too_long
            except Exception as error:  # a chat template that refuses this turn
                flow.flow.close()
                self._end(flow, SetAside("flow failed", f"{type(error).__name__}: {error}"))
                return
            else:
                flow.replies = [given.get(place) for place in range(len(requests))]
                if asked:
                    self._submit(flow, asked)
                    return
                reply = flow.replies if flow.several else flow.replies[0]

    def _submit(self, flow: _Open, asked: dict[int, tuple[Request, list[int], EngineTask]]) -> None:
        flow.waiting = len(asked)
        for place, (request, prompt_ids, task) in asked.items():
            self._requests += 1
            id = f"{flow.task.record}-{self._requests}"
            self._waiting_for[id] = (flow, place, request, prompt_ids)
            self._sequences += _sequences(request)
            self._engine.submit(EngineRequest(id, prompt_ids, task))

    def _receive(self, result: EngineResult) -> None:
        id, answer = result
        flow, place, request, prompt_ids = self._waiting_for.pop(id)
        counts = flow.tokens.get(request.role)
        if counts is None:
            counts = flow.tokens[request.role] = [0, 0]
        counts[0] += len(prompt_ids)
        flow.waiting -= 1
        if isinstance(answer, Comparison | Ranking | Vector):
            flow.replies[place] = answer
        elif isinstance(answer, Scores):
            assert isinstance(flow.setup.renderer, ScoreRenderer)
            flow.replies[place] = flow.setup.renderer.scored(answer)
        elif isinstance(answer, Likely):
            assert isinstance(request, Likelihood) and isinstance(flow.setup.renderer, Renderer)
            flow.replies[place] = flow.setup.renderer.likely(request, prompt_ids, answer)
        else:
            renderer = flow.setup.renderer
            assert isinstance(request, Write | Continue) and isinstance(renderer, Renderer)
            for sample in answer:
                counts[1] += len(sample.ids)
            try:
                if isinstance(request, Continue):
                    flow.replies[place] = renderer.continued(request, prompt_ids, answer)
                else:
                    flow.replies[place] = renderer.completions(request, prompt_ids, answer)
            except SetAside as no_prefix:
                self._forget(flow)
                self._resume(flow, no_prefix)
                return
        if flow.waiting == 0:
            self._resume(flow, flow.replies if flow.several else flow.replies[0])

    def _forget(self, flow: _Open) -> None:
        """Abort what a flow still waits for: nobody will read it."""
        ids = [id for id, (waiting, *_) in self._waiting_for.items() if waiting is flow] if flow.waiting else []
        for id in ids:
            _, _, request, _ = self._waiting_for.pop(id)
            if self._arrived.pop(id, None) is None:
                self._sequences -= _sequences(request)
                self._engine.abort(id)

    def _end(self, flow: _Open, how: Any) -> None:
        self._open -= 1
        task = flow.task
        record = Record(task.record, task.source, task.lease, "rows", tokens=flow.tokens)
        if isinstance(how, Ended):
            record.status = "set-aside" if isinstance(how, SetAside) else "dropped"
            record.reason, record.detail = how.reason, how.detail[:DETAIL_CHARACTERS] or None
            record.rows = () if how.row is None else (how.row,)
        elif how:
            record.rows = how
        else:
            record.status, record.reason = "dropped", "no rows"
        self._finished[task.job].append(record)


def _given(
    renderer: Renderer | ScoreRenderer | PairRenderer | EmbedRenderer, requests: Sequence[Request]
) -> dict[int, Reply]:
    """The replies that no engine makes, by place: only a model that writes has them."""
    if not isinstance(renderer, Renderer):
        return {}
    return {place: renderer.given(each) for place, each in enumerate(requests) if isinstance(each, Given)}


def _sequences(request: Request) -> int:
    """How many of the engine's slots a request takes."""
    return request.n if isinstance(request, Write) else 1
