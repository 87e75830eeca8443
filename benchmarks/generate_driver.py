"""Benchmark: lease + advance + ids + Parquet, records a second and memory, in one process and thread.

    python benchmarks/generate_driver.py [--records N] [--real]

The flow is SAO's, whole: a prompt, two answers, a verdict in both orders, one pair. The engine answers at once. Without
--real, templates and tokenizer are faked too; with it they are those of examples/tiny-model.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

import selfalign_jobs.generate.loop as loop_module
from selfalign_api.load import load_run
from selfalign_api.plan import FlowJob, Generate
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.flow import Comparison, Completion, Request, Write
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.driver import Driver, Event, Report, Started, TableJob
from selfalign_jobs.generate.engine import (
    EngineFacts,
    EngineRequest,
    EngineResult,
    KvUse,
    Labels,
    Sample,
    Sampling,
)
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.parts import PartWriter, read_ledger
from selfalign_jobs.generate.records import Batch, PreparedRows
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.places.store import Folder
from selfalign_jobs.recipes.sao import RECIPE
from selfalign_jobs.step.progress import Progress

EXAMPLES = Path(__file__).parents[1] / "examples"
SEQUENCES = 1024


class InstantEngine:
    """Answers every request at the next step: ids that are the same but for the sample's number."""

    def __init__(self, prefix: tuple[int, ...]) -> None:
        self.facts = EngineFacts(context_tokens=4096, max_sequences=SEQUENCES, start_seconds=0.0)
        self._samples = tuple(Sample((*prefix, 50 + number, 2), "stop") for number in range(2))
        self._open: list[EngineRequest] = []
        self._comparisons = 0

    def submit(self, request: EngineRequest) -> None:
        self._open.append(request)

    def step(self) -> list[EngineResult]:
        open_now, self._open = self._open, []
        return [EngineResult(request.id, self._answer(request)) for request in open_now]

    def kv_use(self) -> KvUse:
        return KvUse(0.0, 0)

    def _answer(self, request: EngineRequest) -> tuple[Sample, ...] | Comparison:
        if not isinstance(request.task, Labels):
            return self._samples[: request.task.n]
        self._comparisons += 1  # forward, backward: the first answer is better in both
        return Comparison(-0.5, -1.5) if self._comparisons % 2 else Comparison(-1.5, -0.5)

    def abort(self, id: str) -> None:
        raise AssertionError(id)


class NoRenderer:
    """Neither templates nor tokenizer: the same ids for every request."""

    _ids = list(range(40))
    _labels = Labels(5, 6)
    _completions = [Completion(f"answer {number}", (30, 50 + number, 2), (1, 2, 3), "stop", 7) for number in (0, 1)]

    def render(self, request: Request) -> tuple[list[int], Sampling | Labels]:
        return self._ids, Sampling(request.n, 1.0, 1.0, 0, 16, request.seed) if isinstance(
            request, Write
        ) else self._labels

    def completions(self, request: Write, prompt_ids: list[int], samples: tuple[Sample, ...]) -> list[Completion]:  # noqa: ARG002
        return self._completions[: request.n]


class OneWorker:
    """The loop in the driver's own process."""

    def __init__(self, loop: FlowLoop, engine: InstantEngine, schema: pa.Schema) -> None:
        self._loop, self._engine, self._schema = loop, engine, schema
        self._started = False

    names = ("one",)

    def give(self, worker: str, tasks: list[Task]) -> None:  # noqa: ARG002
        self._loop.add(tasks)

    def take_back(self, worker: str, rows: int) -> None:
        raise AssertionError(f"there is no other that {worker} could give {rows} rows to")

    def restart(self, worker: str) -> None:
        raise AssertionError(worker)

    def wait(self, seconds: float) -> list[Event]:  # noqa: ARG002
        if not self._started:
            self._started = True
            return [Started("one", self._engine.facts)]
        for _ in range(3):
            self._loop.advance()
        finished = self._loop.take_finished()
        return [
            Report(
                "one",
                {out: Batch.of(records, self._schema) for out, records in finished.items() if records},
                KvUse(0.0, 0),
            )
        ]


def sao_jobs() -> tuple[FlowJob, ...]:
    """The jobs of the demo's first step: pairs, and the initial model's answers."""
    plan = resolve(load_run(EXAMPLES / "sao-tiny.yaml"), "CPU", {"selfalign": str(EXAMPLES)}, EXAMPLES).plan
    step = plan.steps[0]
    assert isinstance(step, Generate)
    return step.load.jobs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--real", action="store_true", help="with the tiny model's templates and tokenizer")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()

    job, flow = sao_jobs()[0], RECIPE.flows["sao"]
    if options.real:
        chat = ModelChat.of(EXAMPLES / "tiny-model/model", None)
        engine = InstantEngine(tuple(chat.encode("User prompt: Reverse these words: cow rake blue")))
        renderer: Any = Renderer(chat, job.roles, 4096)
    else:
        engine, renderer = InstantEngine(tuple(range(20))), NoRenderer()
        loop_module.render_template = lambda template, _: template
    loop = FlowLoop(engine, {job.out: JobSetup(job, flow.run, renderer, 0)}, SEQUENCES)
    table = pa.table({"persona": [f"a quiet baker who counts {number} things" for number in range(options.records)]})
    with tempfile.TemporaryDirectory() as place:
        rows = PreparedRows(table, job.out, "sha256:step")
        folder = Folder.open(Path(place).as_uri())
        writer = PartWriter(folder, job.out, flow.schema, 1, read_ledger(folder, rows, 1))
        driver = Driver(
            {job.out: TableJob(job.out, job.flow, rows, writer)},
            OneWorker(loop, engine, flow.schema),
            Progress("benchmark"),
            threading.Event(),
            max_set_aside_percent=100,
        )
        loop_module.spare_the_collector()  # as an actor does
        start, cpu = time.perf_counter(), time.process_time()
        if options.profile:
            import cProfile

            cProfile.runctx("driver.run()", globals(), locals(), str(options.profile))
        else:
            driver.run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert (
            writer.ledger.rows + sum(n for (s, _), n in writer.ledger.outcomes.items() if s != "rows")
            == options.records
        )
        print(dict(writer.ledger.outcomes))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{options.records} records in {seconds:.1f} s ({cpu:.1f} s of CPU): {options.records / seconds:.0f} a second, "
            f"{options.records / cpu:.0f} a second of CPU; peak memory {peak:.0f} MiB"
        )


if __name__ == "__main__":
    main()
