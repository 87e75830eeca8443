"""Benchmark: the whole of SAO as flows against the same flows in stages, each stage one bare `LLM.generate`.

    python benchmarks/generate_sao.py [--personas N] [--runs N] [--skewed]

Prompts, then two answers each, then verdicts in both orders. Both sides render and read alike; they differ in who
schedules: the loop without a barrier, or a barrier after each stage. Without --skewed: the tiny model as in the demo, with
its own lengths. With it: random weights, and lengths from a wide log-normal draw.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

from bare import (
    TINY,
    BenchEngine,
    bare_llm,
    compare,
    lengths,
    machine,
    params_of,
    random_model,
    run_loop,
    scratch,
    set_environment,
)
from generate_driver import sao_job

from selfalign_api.plan import FlowJob, Role
from selfalign_jobs.flow import Ask, Comparison, Ended
from selfalign_jobs.generate.driver import Batch
from selfalign_jobs.generate.engine import EngineRequest, Labels
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import ModelChat, Renderer, render_template
from selfalign_jobs.generate.vllm_engine import _answer
from selfalign_jobs.recipes.sao import RECIPE

FLOW = RECIPE.flows["sao"]
DRAWN = lengths(4096, seed=1, sigma=1.2)


def skewed_length(request: EngineRequest) -> int:
    """The same for the same prompt and seed, whoever asks."""
    text = f"{list(request.prompt_ids)} {request.task}"
    return DRAWN[int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest(), "big") % len(DRAWN)]


class Work:
    """SAO over some personas."""

    def __init__(self, model: Path, context: int, count: int, *, skewed: bool) -> None:
        job = sao_job()
        if skewed:  # random weights write no prefix, and their text grows
            free = {
                name: role.model_copy(update={"output_prefix": None, "max_tokens": 200})
                for name, role in job.roles.items()
            }
            roles: dict[str, Role] = free
            job = job.model_copy(update={"roles": roles})
        self.job: FlowJob = job
        self.length_of = skewed_length if skewed else None
        self.renderer = Renderer(ModelChat(model, None), job.roles, context)
        self.rows = [{"persona": f"a quiet baker who does everything backwards {number}"} for number in range(count)]

    def run_loop(self, llm: Any) -> tuple[int, float]:
        engine = BenchEngine(llm, self.length_of)
        start = time.perf_counter()
        setup = JobSetup(self.job, FLOW.run, self.renderer, 0)
        loop = FlowLoop(engine, {"pairs": setup}, engine.facts.max_sequences)
        tasks = [Task("pairs", number, str(number), 1, row) for number, row in enumerate(self.rows)]
        tokens = run_loop(loop, tasks, FLOW.schema)
        return tokens, time.perf_counter() - start

    def run_staged(self, llm: Any) -> tuple[int, float]:
        """The same flows in lockstep: all requests of a stage, one bare call, all replies."""
        start = time.perf_counter()
        flows = [FLOW.run(row, Ask(self.job, 0, str(number), render_template)) for number, row in enumerate(self.rows)]
        replies: list[Any] = [None] * len(flows)
        rows: list[Any] = [None] * len(flows)
        alive, tokens = list(range(len(flows))), 0
        while alive:
            asked: list[tuple[int, list[Any], bool]] = []
            for number in alive:
                try:
                    reply = replies[number]
                    yielded = flows[number].throw(reply) if isinstance(reply, Ended) else flows[number].send(reply)
                except StopIteration as stop:
                    rows[number] = Record(str(number), number, 1, "rows", rows=stop.value)
                except Ended as ended:
                    rows[number] = Record(str(number), number, 1, "dropped", ended.reason)
                else:
                    several = isinstance(yielded, list)
                    asked.append((number, yielded if several else [yielded], several))
            rendered: list[EngineRequest] = []
            places: list[tuple[int, list[Any], bool, int]] = []
            alive = [number for number, _, _ in asked]
            for number, requests, several in asked:
                try:
                    made = [self.renderer.render(request) for request in requests]
                except Ended as ended:
                    replies[number] = ended
                    continue
                places.append((number, requests, several, len(rendered)))
                rendered += [EngineRequest(str(number), ids, task) for ids, task in made]
            if not rendered:
                continue
            outputs = llm.generate(
                [{"prompt_token_ids": request.prompt_ids} for request in rendered],
                [params_of(request, self.length_of) for request in rendered],
                use_tqdm=False,
            )
            tokens += sum(
                len(part.token_ids)
                for request, output in zip(rendered, outputs, strict=True)
                for part in output.outputs
                if not isinstance(request.task, Labels)
            )
            for number, requests, several, begin in places:
                read = [
                    self._read(request, rendered[begin + place], outputs[begin + place])
                    for place, request in enumerate(requests)
                ]
                bad = next((reply for reply in read if isinstance(reply, Ended)), None)
                replies[number] = bad or (read if several else read[0])
        Batch.of(rows, FLOW.schema)
        return tokens, time.perf_counter() - start

    def _read(self, request: Any, asked: EngineRequest, output: Any) -> Any:
        answer = _answer(output, asked.task if isinstance(asked.task, Labels) else None)
        if isinstance(asked.task, Labels):
            return Comparison(*answer)
        try:
            return self.renderer.completions(request, list(asked.prompt_ids), answer)  # type: ignore[arg-type]
        except Ended as ended:
            return ended


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--personas", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skewed", action="store_true")
    options = parser.parse_args()
    set_environment()
    with scratch() as folder:
        context = 1024 if options.skewed else 256
        model = random_model(Path(folder), context) if options.skewed else TINY
        work, llm = Work(model, context, options.personas, skewed=options.skewed), bare_llm(model)
        spare_the_collector()
        sides = {"flows": lambda: work.run_loop(llm), "staged": lambda: work.run_staged(llm)}
        rates = compare(options.runs, sides)
    print(machine())
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} tokens/s")
    print(f"time of flows / time of stages: {rates['staged'] / rates['flows']:.3f}")


if __name__ == "__main__":
    main()
