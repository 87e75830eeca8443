"""An engine and the flows on it, in the process that holds both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfalign_api.plan import FlowJob
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.chat import Chat
from selfalign_jobs.generate.embed_render import EmbedRenderer
from selfalign_jobs.generate.engine import Engine, EngineFacts, KvUse
from selfalign_jobs.generate.in_flight import SLICE_SECONDS, host_seconds, max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.records import Batch, Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.score_render import PairRenderer, ScoreRenderer
from selfalign_jobs.recipes.base import FlowDef

MakeScorer = Callable[[Path, int], ScoreRenderer | PairRenderer | EmbedRenderer]  # of a model's folder and its context


@dataclass(frozen=True)
class HostSetup:
    """All that a process needs to run flows."""

    means: GenerationMeans
    locate: Callable[[], Path]  # the model's folder on this node, fetched there if need be
    make_chat: Callable[[Path], Chat]  # of a model that writes
    make_engine: Callable[[Path, int], Engine]  # of a model's folder, and how many engines share the GPU
    jobs: Mapping[str, FlowJob]  # by the table that each makes
    flows: Mapping[str, FlowDef]  # by the same
    run_seed: int
    environment: Callable[[], Mapping[str, str]]  # of the process, before the engine's libraries are imported
    make_scorer: Callable[[Path, int], ScoreRenderer | PairRenderer | EmbedRenderer] | None = (
        None  # of one that scores, and its context
    )


@dataclass(frozen=True, slots=True)
class Word:
    """What is said at the end of an exchange."""

    batches: dict[str, Batch]
    kv_use: KvUse
    given_back: list[tuple[int, int]]  # lease and number of rows


class EngineHost:
    """One engine, fed by a loop."""

    def __init__(self, setup: HostSetup, model: Path, engines: int = 1) -> None:
        """Load tokenizer and engine, one of `engines` on its GPU; the environment must be `setup.environment()`."""
        self._flows = setup.flows
        chat = (
            None if setup.make_scorer else setup.make_chat(model)
        )  # what is wrong with it is known before an engine starts
        self._engine = setup.make_engine(model, engines)
        self.facts: EngineFacts = self._engine.facts
        context = self.facts.context_tokens

        def renderer(job: FlowJob) -> Renderer | ScoreRenderer | PairRenderer | EmbedRenderer:
            if chat is not None:
                return Renderer(chat, job.roles, context)
            assert setup.make_scorer is not None
            return setup.make_scorer(model, context)

        jobs = {
            out: JobSetup(job, setup.flows[out].run, renderer(job), setup.run_seed) for out, job in setup.jobs.items()
        }
        self._loop = FlowLoop(self._engine, jobs, max_open_flows(self.facts), host_seconds(self.facts))
        warm_up(setup.flows)
        spare_the_collector()

    def exchange(self, tasks: list[Task], back: int) -> Word:
        """Take rows, give back up to `back` that are not begun, work for a while, and report what has finished."""
        loop = self._loop
        loop.add(tasks)
        given_back = loop.give_back(back)
        until = time.monotonic() + SLICE_SECONDS
        while loop.unfinished and time.monotonic() < until:
            loop.advance()
        batches = {
            out: Batch.of(records, self._flows[out].schema) for out, records in loop.take_finished().items() if records
        }
        return Word(batches, self._engine.kv_use(), given_back)


def warm_up(flows: Mapping[str, FlowDef]) -> None:
    """Make a table of each flow: Arrow's first one imports pandas, most of a second in which an engine would wait."""
    for flow in flows.values():
        Batch.of([Record("", 0, 0, "dropped")], flow.schema)
