"""Benchmark: one stage. Our loop's tokens a second by those of bare `LLM.generate`, the faster of its two modes.

    python benchmarks/generate_stage.py [--requests N] [--runs N]

Same prompts, seeds and lengths (a fixed log-normal draw, `ignore_eos`), same threads; medians of alternating runs, start-up
excluded. The bare call gets token ids and returns token ids; our side also renders, tokenises, decodes and makes tables.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from bare import (
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

from selfalign_api.plan import FlowJob, Prepare, Role
from selfalign_jobs.flow import Ask, Row, Write, seed_of
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import EngineRequest
from selfalign_jobs.generate.in_flight import max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes.rows import ANSWERS

CONTEXT = 512
ROLES = {"respond": Role(temperature=1.0, max_tokens=200)}
JOB = FlowJob(flow="answer", rows=Prepare(fn="draw"), out="answers", roles=ROLES)


def flow(row: Row, ask: Ask) -> Generator[Write, Any, list[Row]]:
    (reply,) = yield ask.write("respond", prompt=row["prompt"])
    return [{"prompt": row["prompt"], "role": "respond", "answer": reply.text, "tokens": len(reply.ids)}]


class Work:
    """The requests of the benchmark, in both forms."""

    def __init__(self, model: Path, count: int) -> None:
        self.rows = [{"prompt": f"Reverse these words: cow rake blue {number}"} for number in range(count)]
        self.renderer = Renderer(ModelChat.of(model, None), ROLES, CONTEXT)
        self.requests = []
        for number, row in enumerate(self.rows):
            write = Write("respond", row["prompt"], 1, seed_of(0, str(number), "respond", 0))
            self.requests.append(EngineRequest(str(number), *self.renderer.render(write)))
        drawn = lengths(count, seed=0, sigma=0.8)
        self._lengths = {tuple(r.prompt_ids): n for r, n in zip(self.requests, drawn, strict=True)}
        self.tokens = sum(drawn)

    def length_of(self, request: EngineRequest) -> int:
        return self._lengths[tuple(request.prompt_ids)]

    def run_bare(self, llm: Any) -> tuple[int, float]:
        params = [params_of(request, self.length_of) for request in self.requests]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in self.requests]
        start = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        return sum(len(part.token_ids) for output in outputs for part in output.outputs), seconds

    def run_loop(self, llm: Any) -> tuple[int, float]:
        engine = BenchEngine(llm, self.length_of)
        start = time.perf_counter()
        loop = FlowLoop(engine, {"answers": JobSetup(JOB, flow, self.renderer, 0)}, max_open_flows(engine.facts))
        tasks = [Task("answers", number, str(number), 1, row) for number, row in enumerate(self.rows)]
        tokens = run_loop(loop, tasks, {"answers": ANSWERS})
        return tokens, time.perf_counter() - start


def serve_child(model: Path, count: int) -> None:
    """The bare call with the engine core in a child process: one run for each line read."""
    set_environment(child=True)
    work, llm = Work(model, count), bare_llm(model)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(*work.run_bare(llm), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve_child(options.child, options.requests)
        return
    set_environment()
    with scratch() as folder:
        model = random_model(Path(folder), CONTEXT)
        work, llm = Work(model, options.requests), bare_llm(model)
        command = [sys.executable, __file__, "--child", str(model), "--requests", str(options.requests)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None and child.stdout is not None
        while (line := child.stdout.readline()) != "ready\n":
            assert line, "the child has ended"

        def run_child() -> tuple[int, float]:
            child.stdin.write("run\n")
            child.stdin.flush()
            while True:
                words = child.stdout.readline().split()
                if len(words) == 2 and words[0].isdigit():
                    return int(words[0]), float(words[1])

        spare_the_collector()
        sides = {
            "loop": lambda: work.run_loop(llm),
            "bare, in-process": lambda: work.run_bare(llm),
            "bare, child": run_child,
        }
        medians = compare(options.runs, sides)
        child.stdin.close()
        child.wait(60)
    print(machine())
    for name, rate in medians.items():
        print(f"{name}: {rate:.0f} tokens/s")
    bare = max(rate for name, rate in medians.items() if name != "loop")
    print(f"loop / faster bare: {medians['loop'] / bare:.3f}")


if __name__ == "__main__":
    main()
