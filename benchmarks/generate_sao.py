"""Benchmark: the whole of SAO's first step as flows against the same flows in stages, each stage one bare `LLM.generate`.

    python benchmarks/generate_sao.py [--personas N] [--runs N] [--skewed [--model FOLDER]]

Prompts, then two answers each, then verdicts in both orders; and the initial model's answers to held-out prompts, in the
demo's proportion. Both sides render and read alike; they differ in who schedules: the loop without a barrier, or a
barrier after each stage and each table. Without --skewed: the tiny model as in the demo, with its own lengths. With it:
lengths from a wide log-normal draw, and random weights, or those of a folder (`python examples/smollm2/fetch.py` makes
out/smollm2). The tiny model's step costs next to nothing of its own; a real one's has to read all weights.
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
from generate_driver import sao_jobs

from selfalign_api.plan import EngineSettings
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import EngineFacts, EngineRequest, EngineResult, Labels
from selfalign_jobs.generate.in_flight import max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.vllm_engine import _answer
from selfalign_jobs.recipes.sao import RECIPE

DRAWN = lengths(4096, seed=1, sigma=1.2)
HELD_OUT_SHARE = 600 / 4000  # of the personas: what the demo has


def skewed_length(request: EngineRequest) -> int:
    """The same for the same seed, whoever asks and whatever came before: a batch's other rows change a real model's words."""
    text = str(request.task)
    return DRAWN[int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest(), "big") % len(DRAWN)]


class StagedEngine:
    """All open requests by one bare call: flows that run on it go in lockstep, with a barrier after each stage."""

    def __init__(self, llm: Any, length_of: Any) -> None:
        self.facts = EngineFacts(llm.llm_engine.model_config.max_model_len, 256, 0.0)
        self._llm, self._length_of = llm, length_of
        self._open: list[EngineRequest] = []

    def submit(self, request: EngineRequest) -> None:
        self._open.append(request)

    def step(self) -> list[EngineResult]:
        stage, self._open = self._open, []
        outputs = self._llm.generate(
            [{"prompt_token_ids": request.prompt_ids} for request in stage],
            [params_of(request, self._length_of) for request in stage],
            use_tqdm=False,
        )
        return [
            EngineResult(request.id, _answer(output, request.task if isinstance(request.task, Labels) else None))
            for request, output in zip(stage, outputs, strict=True)
        ]

    def abort(self, id: str) -> None:
        raise AssertionError(id)


class Work:
    """SAO over some personas, and the held-out prompts beside it."""

    def __init__(self, model: Path, context: int, personas: int, *, skewed: bool) -> None:
        self.length_of = skewed_length if skewed else None
        self.setups, self.schemas, self.tasks = {}, {}, {}
        chat = ModelChat.of(model, None)
        for job in sao_jobs():
            roles = job.roles
            if skewed:  # random weights write no prefix, a model that is cut off may not, and their text grows
                free = {"output_prefix": None, "max_tokens": 200}
                roles = {name: role.model_copy(update=free) for name, role in roles.items()}
            flow = RECIPE.flows[job.flow]
            self.setups[job.out] = JobSetup(
                job.model_copy(update={"roles": roles}), flow.run, Renderer(chat, roles, context), 0
            )
            self.schemas[job.out] = flow.schema
            self.tasks[job.out] = [
                Task(job.out, number, f"{job.out}{number}", 1, row)
                for number, row in enumerate(rows_for(job.out, personas))
            ]

    def run_flows(self, llm: Any) -> tuple[int, float]:
        """All tables in one running batch."""
        llm.reset_prefix_cache()  # what the last run left: a step never sees its prompts twice
        engine = BenchEngine(llm, self.length_of)
        start = time.perf_counter()
        loop = FlowLoop(engine, self.setups, max_open_flows(engine.facts))
        tasks = [task for table in self.tasks.values() for task in table]
        return run_loop(loop, tasks, self.schemas), time.perf_counter() - start

    def run_staged(self, llm: Any) -> tuple[int, float]:
        """One table after the other, one stage after the other."""
        llm.reset_prefix_cache()
        start, tokens = time.perf_counter(), 0
        for out, tasks in self.tasks.items():
            loop = FlowLoop(StagedEngine(llm, self.length_of), {out: self.setups[out]}, len(tasks))
            tokens += run_loop(loop, tasks, self.schemas)
        return tokens, time.perf_counter() - start


def rows_for(out: str, personas: int) -> list[dict[str, Any]]:
    """Rows of a table, as its flow takes them."""
    if out == "pairs":
        return [{"persona": f"a quiet baker who does everything backwards {number}"} for number in range(personas)]
    return [{"prompt": f"Reverse these words: cow rake {number}"} for number in range(int(personas * HELD_OUT_SHARE))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--personas", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skewed", action="store_true")
    parser.add_argument("--model", type=Path, help="with --skewed: a model folder, run in bfloat16")
    options = parser.parse_args()
    if options.model and not options.skewed:
        parser.error("--model is for --skewed: the demo's lengths are the tiny model's own; write both")
    set_environment()
    with scratch() as folder:
        context = 1024 if options.skewed else 256
        model = options.model or (random_model(Path(folder), context) if options.skewed else TINY)
        settings = EngineSettings(precision="bfloat16", max_model_tokens=context) if options.model else None
        work, llm = Work(model, context, options.personas, skewed=options.skewed), bare_llm(model, settings)
        spare_the_collector()
        sides = {"flows": lambda: work.run_flows(llm), "staged": lambda: work.run_staged(llm)}
        rates = compare(options.runs, sides)
    print(machine())
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} tokens/s")
    print(f"time of flows / time of stages: {rates['staged'] / rates['flows']:.3f}")


if __name__ == "__main__":
    main()
