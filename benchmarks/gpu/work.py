"""What the engines of the benchmark are asked: prompts with seeds and fixed lengths, comparisons, and probes of both."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bare import BenchEngine, params_of, run_loop

from selfalign_api.plan import FlowJob, Prepare, Role
from selfalign_jobs.flow import Ask, Compare, Row, Write, seed_of
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.crew import Crew
from selfalign_jobs.generate.engine import EngineRequest, Labels
from selfalign_jobs.generate.engine_setup import EngineSpec
from selfalign_jobs.generate.in_flight import HOST_SECONDS, max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.vllm_engine import VllmEngine, engine_input
from selfalign_jobs.recipes.base import FlowDef
from selfalign_jobs.recipes.rows import ANSWERS

TEMPLATE = "Which answer to this prompt is better, A or B? The prompt: {prompt} A: {first} B: {second}"
VERDICTS = ("A", "B")


class Work:
    """Rows, each of which asks for one answer and one comparison, and the same requests for a bare `LLM.generate`."""

    def __init__(self, model: Path, rows: int, answer_tokens: int, context: int) -> None:
        draw = random.Random(0)
        self.roles = {"respond": Role(temperature=1.0, max_tokens=2 * answer_tokens), "judge": Role(max_tokens=1)}
        self.job = FlowJob(flow="answer", rows=Prepare(fn="draw"), out="answers", roles=self.roles)
        self.renderer = Renderer(ModelChat.of(model, None), self.roles, context)
        self.rows: list[Row] = [{name: _text(draw, 48) for name in ("prompt", "first", "second")} for _ in range(rows)]
        drawn = {row["prompt"]: max(1, int(draw.uniform(0, 2) * answer_tokens)) for row in self.rows}
        self.requests = [request for number, row in enumerate(self.rows) for request in self._requests(number, row)]
        self.lengths = {
            tuple(r.prompt_ids): drawn[row["prompt"]] for r, row in zip(self.writes, self.rows, strict=True)
        }

    @property
    def writes(self) -> list[EngineRequest]:
        """The requests for text."""
        return [request for request in self.requests if not isinstance(request.task, Labels)]

    @property
    def comparisons(self) -> list[EngineRequest]:
        """The requests for two log-probabilities."""
        return [request for request in self.requests if isinstance(request.task, Labels)]

    def length_of(self, request: EngineRequest) -> int:
        """How many tokens an answer has: the same for every side."""
        return self.lengths[tuple(request.prompt_ids)]

    def bare(self, llm: Any) -> tuple[int, float]:
        """Tokens and seconds of one `LLM.generate` with all requests."""
        llm.reset_prefix_cache()
        params = [params_of(request, self.length_of) for request in self.requests]
        start = time.perf_counter()
        outputs = llm.generate([engine_input(each.prompt_ids) for each in self.requests], params, use_tqdm=False)
        seconds = time.perf_counter() - start
        texts = [o for o, r in zip(outputs, self.requests, strict=True) if not isinstance(r.task, Labels)]
        return sum(len(output.outputs[0].token_ids) for output in texts), seconds

    def loop(self, llm: Any, *, each_step: bool) -> tuple[int, float]:
        """The same as flows on our loop: answers are read before each step, as on a GPU, or gather until a slot is free."""
        llm.reset_prefix_cache()
        engine = BenchEngine(llm, self.length_of)
        start = time.perf_counter()
        jobs = {"answers": JobSetup(self.job, FLOW.run, self.renderer, 0)}
        loop = FlowLoop(engine, jobs, max_open_flows(engine.facts), HOST_SECONDS if each_step else None)
        return run_loop(loop, self._tasks(), {"answers": ANSWERS}), time.perf_counter() - start

    def crew(self, crew: Crew) -> tuple[int, float]:
        """The same on several engines that share the device."""
        start, tokens, left = time.perf_counter(), 0, len(self.rows)
        tasks = self._tasks()
        while left:
            word = crew.exchange(tasks, 0)
            tasks = []
            for batch in word.batches.values():
                left -= len(batch.sources)
                tokens += sum(made for _, made in batch.tokens.values())
        return tokens, time.perf_counter() - start

    def _tasks(self) -> list[Task]:
        return [Task("answers", number, str(number), 1, row) for number, row in enumerate(self.rows)]

    def _requests(self, number: int, row: Row) -> list[EngineRequest]:
        return [
            EngineRequest(f"{number}-{place}", *self.renderer.render(each))
            for place, each in enumerate(_asked(number, row))
        ]


def _answer_and_compare(row: Row, ask: Ask) -> Generator[Any, Any, list[Row]]:
    (reply,), _ = yield list(_asked(int(ask.record), row))
    return [{"prompt": row["prompt"], "role": "respond", "answer": reply.text, "tokens": len(reply.ids)}]


FLOW = FlowDef(_answer_and_compare, ANSWERS)


class FixedLengths(VllmEngine):
    """Our engine, its answers as long as they are for the other sides."""

    def __init__(self, spec: EngineSpec, lengths: dict[tuple[int, ...], int], model: Path, engines: int) -> None:
        percent = spec.means.gpu_memory_percent // engines
        means = spec.means.model_copy(update={"gpu_memory_percent": percent})
        super().__init__(replace(spec, means=means), model)
        self._lengths = lengths

    def _params(self, request: EngineRequest) -> Any:
        return params_of(request, lambda asked: self._lengths[tuple(asked.prompt_ids)])


def _asked(number: int, row: Row) -> tuple[Write, Compare]:
    return (
        Write("respond", row["prompt"], 1, seed_of(0, number, "respond", 0)),
        Compare("judge", TEMPLATE.format(**row), VERDICTS),
    )


def _text(draw: random.Random, words: int) -> str:
    """Words of the random model, which are text to any other."""
    return " ".join(f"w{draw.randrange(100, 2000)}" for _ in range(words))


def samples(llm: Any, requests: list[EngineRequest], tokens: int) -> list[tuple[int, ...]]:
    """The ids of seeded answers of that length, all asked at once."""
    outputs = llm.generate(
        [engine_input(each.prompt_ids) for each in requests],
        [params_of(each, lambda _: tokens) for each in requests],
        use_tqdm=False,
    )
    return [tuple(output.outputs[0].token_ids) for output in outputs]


def margins(llm: Any, requests: list[EngineRequest]) -> list[float]:
    """Log-probability of the first verdict less that of the second, in nats, all asked at once."""
    params = [params_of(request, None) for request in requests]
    outputs = llm.generate([engine_input(each.prompt_ids) for each in requests], params, use_tqdm=False)
    found = []
    for output, request in zip(outputs, requests, strict=True):
        (next_token,) = output.outputs[0].logprobs
        assert isinstance(request.task, Labels)
        found.append(next_token[request.task.first].logprob - next_token[request.task.second].logprob)
    return found
