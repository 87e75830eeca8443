"""Benchmark: comparisons alone. Two candidate verdicts by `logprob_token_ids`, as we ask, and by `logprobs=2`.

    python benchmarks/generate_comparisons.py [--comparisons N] [--runs N]

Prompts are the demo's judge prompts over two answers of its language; the prefix cache is emptied before each run.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from bare import TINY, bare_llm, compare, machine, set_environment
from generate_driver import sao_jobs

from selfalign_jobs.flow import Ask
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import Labels
from selfalign_jobs.generate.loop import spare_the_collector
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.vllm_engine import engine_input, sampling_params
from selfalign_jobs.template import render_template


class Work:
    """Rendered comparisons."""

    def __init__(self, count: int) -> None:
        job = sao_jobs()[0]
        renderer = Renderer(ModelChat.of(TINY, None), job.roles, 256)
        self.rendered = []
        for number in range(count):
            ask = Ask(job, 0, str(number), render_template)
            prompt, answers = f"Reverse these words: cow rake {number}", (f"{number} rake cow", f"rake {number} cow")
            request = ask.compare("judge", ask.judge.verdicts, prompt=prompt, first=answers[0], second=answers[1])
            self.rendered.append(renderer.render(request))

    def run(self, llm: Any, *, labels: bool) -> tuple[int, float]:
        """How many comparisons, in how many seconds."""
        llm.reset_prefix_cache()
        params = []
        for _, task in self.rendered:
            assert isinstance(task, Labels)
            asked = sampling_params(task)
            if not labels:
                asked.logprob_token_ids, asked.logprobs = None, 2
            params.append(asked)
        start = time.perf_counter()
        outputs = llm.generate([engine_input(ids) for ids, _ in self.rendered], params, use_tqdm=False)
        return len(outputs), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    set_environment()
    work, llm = Work(options.comparisons), bare_llm(TINY)
    spare_the_collector()
    sides = {"logprob_token_ids": lambda: work.run(llm, labels=True), "logprobs=2": lambda: work.run(llm, labels=False)}
    rates = compare(options.runs, sides)
    print(machine())
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} comparisons/s")


if __name__ == "__main__":
    main()
