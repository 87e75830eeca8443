"""Benchmark: generation against a modelled H100. How busy the card is, and how many records a second 1, 8 and 64 engines make.

    python benchmarks/generate_h100.py [--rows N] [--host-scale S] [--variants NAME ...]

Real: vLLM's scheduler, block manager and output processing; our loop, renderer (SmolLM2's tokenizer and template), flows
(SAO, answers of 400 tokens in the mean) and driver. Modelled: the card (modelled_card.py). The host's time is the CPU that
all this takes on one core of this machine, times --host-scale, on a clock on which the card's steps take what the model
says: other work on this machine changes nothing but how long the benchmark takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "4",
}

import numpy as np
from generate_driver import EXAMPLES
from generate_fleet import Pace, drive
from modelled_card import MODELS, Card, Clock, Host, executor_of

from selfalign_api.load import load_run
from selfalign_api.plan import FlowJob, Generate
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.flow import Comparison
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.crew import ENGINES, SMALL_BYTES
from selfalign_jobs.generate.engine import EngineFacts, EngineRequest, EngineResult, Sample, Sampling
from selfalign_jobs.generate.host import warm_up
from selfalign_jobs.generate.in_flight import HOST_SECONDS, SLICE_SECONDS, max_open_flows
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task, spare_the_collector
from selfalign_jobs.generate.records import Batch
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.vllm_engine import VllmEngine, sampling_params
from selfalign_jobs.recipes.personas import persona
from selfalign_jobs.recipes.sao import RECIPE

ANSWER_TOKENS, PROMPT_TOKENS, LONGEST, SPREAD = 400, 60, 2000, 0.5
CONTEXT = 4608  # a prompt and two answers at their longest, as SAO's roles need it
SEQUENCES, BATCH_TOKENS = 1024, 16384  # vLLM's own choice for an H100
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Variant:
    """How the host's work is laid out."""

    host_seconds: float | None  # of reading before each step; None: answers gather until a slot would be empty
    child: bool = False  # the engine core in a process of its own
    engines: int = 1  # on the card


VARIANTS = {
    "gather": Variant(None),
    "each step": Variant(HOST_SECONDS),
    "child": Variant(HOST_SECONDS, child=True),
    "two engines": Variant(HOST_SECONDS, engines=2),
    "three engines": Variant(HOST_SECONDS, engines=3),
}
BEFORE = "gather"


def chosen(model: str) -> str:
    """The variant that a step takes for a model, as `crew.engines_of` has it by the weights."""
    engines = ENGINES if MODELS[model].weights < SMALL_BYTES else 1
    (name,) = (name for name, variant in VARIANTS.items() if variant == Variant(HOST_SECONDS, engines=engines))
    return name


class Texts:
    """Real text of any length, as token ids: what the engines "write"."""

    def __init__(self, chat: ModelChat) -> None:
        words = " ".join(file.read_text() for file in sorted((ROOT / "docs").glob("*.md"))).split(" ")
        draw = random.Random(0)

        def some(words_of_text: int) -> list[int]:
            start = draw.randrange(len(words) - words_of_text)
            return chat.encode(" ".join(words[start : start + words_of_text]))

        self._answers = [tuple(some(2600)) for _ in range(24)]
        prefix = chat.encode("User prompt: ")
        self._prompts = [(*prefix, *some(60)[: PROMPT_TOKENS - 5], chat.end_id) for _ in range(64)]
        self._draw = draw

    def prompt(self) -> Sample:
        return Sample(self._draw.choice(self._prompts), "stop")

    def answer(self, length: int) -> Sample:
        return Sample(self._draw.choice(self._answers)[:length], "stop")


def length_of(task: Sampling) -> int:
    """A log-normal length, the same for the same seed."""
    number = int.from_bytes(hashlib.blake2b(str(task.seed).encode(), digest_size=8).digest(), "big")
    mean = ANSWER_TOKENS if task.n == 2 else PROMPT_TOKENS
    return max(4, min(LONGEST, int(mean * math.exp(random.Random(number).gauss(0, SPREAD) - SPREAD**2 / 2))))


class CardEngine(VllmEngine):
    """Our engine, on vLLM's with the modelled card below it."""

    def __init__(self, engine: Any, sequences: int, texts: Texts) -> None:
        self._engine, self._texts = engine, texts
        self._submitted = []
        self._labels = {}
        cache = engine.vllm_config.cache_config
        self._facts = EngineFacts(CONTEXT, sequences, 0.0, cache.kv_cache_size_tokens, versions={"played": "1"})

    def _params(self, request: EngineRequest) -> Any:
        params = sampling_params(request.task)
        if isinstance(request.task, Sampling):
            params.max_tokens, params.ignore_eos = length_of(request.task), True
        return params

    def step(self) -> list[EngineResult]:
        return [EngineResult(result.id, self._with_text(result.answer)) for result in super().step()]

    def _with_text(self, answer: tuple[Sample, ...] | Comparison) -> tuple[Sample, ...] | Comparison:
        if isinstance(answer, Comparison):
            return answer
        if len(answer) == 1:
            return (self._texts.prompt(),)
        return tuple(self._texts.answer(len(sample.ids)) for sample in answer)


class ChildCore:
    """An engine core in a process of its own, as `vllm.v1.engine.core_client.SyncMPClient` has it, on two clocks.

    What goes between the two is encoded and decoded as there; vLLM's threads that do it share the processes' locks, so
    it is on their clocks.
    """

    def __init__(self, core: Any, host: Host, front: Clock, back: Clock) -> None:
        from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
        from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

        self.engine_core = core
        self._host, self._front, self._back = host, front, back
        self._encoder = MsgpackEncoder()
        self._requests, self._outputs = MsgpackDecoder(EngineCoreRequest), MsgpackDecoder(EngineCoreOutputs)
        self._inbox: deque[tuple[float, Any]] = deque()
        self._outbox: deque[tuple[float, Any]] = deque()

    def get_supported_tasks(self) -> tuple[str, ...]:
        tasks: tuple[str, ...] = self.engine_core.get_supported_tasks()
        return tasks

    def add_request(self, request: Any) -> None:
        self._inbox.append((self._host.time(self._front), self._encoder.encode(request)))

    def abort_requests(self, ids: list[str]) -> None:
        assert not ids

    def get_output(self) -> Any:
        self._host.switch(self._back)
        while (not self._outbox or self._back.now < self._front.now) and self._step():
            self._host.time(self._back)
        self._host.switch(self._front)
        when, encoded = self._outbox.popleft()
        self._front.wait(when)
        return self._outputs.decode(encoded)

    def _step(self) -> bool:
        core = self.engine_core
        works = core.scheduler.has_requests() or bool(core.batch_queue)
        if not works and self._inbox:
            self._back.wait(self._inbox[0][0])
        while self._inbox and self._inbox[0][0] <= self._host.time(self._back):
            request = self._requests.decode(self._inbox.popleft()[1])
            core.add_request(*core.preprocess_add_request(request))
            works = True
        if not works:
            return False
        outputs, executed = core.step_fn()
        core.post_step(executed)
        if outputs:
            encoded = self._encoder.encode(outputs[0])
            self._outbox.append((self._host.time(self._back), encoded))
        return True


@dataclass
class Process:
    """One engine's host: its loop, and what it has finished."""

    loop: FlowLoop
    clock: Clock
    spoke: float = 0.0
    records: list[float] = field(default_factory=list)  # when each was finished


@dataclass(frozen=True)
class Outcome:
    """What a run showed, between a third and three quarters of its records."""

    busy: float
    gap: float  # the longest, of the whole run but its end
    records: float  # a second
    tokens: float  # written a second
    costs: list[tuple[int, float]]  # sequences and seconds of each step
    facts: EngineFacts  # of one engine

    def __str__(self) -> str:
        return f"busy {self.busy:.3f}, longest gap {self.gap:.3f} s, {self.records:.2f} records/s, {self.tokens:.0f} tok/s written"


def sao_job() -> FlowJob:
    """SAO's pairs, with the method's own roles (the 8B example's)."""
    plan = resolve(load_run(EXAMPLES / "sao-tiny.yaml"), "CPU", {"selfalign": str(EXAMPLES)}, EXAMPLES).plan
    step = plan.steps[0]
    assert isinstance(step, Generate)
    (job,) = (job for job in step.load.jobs if job.out == "pairs")
    roles = {
        name: role.model_copy(update={"max_tokens": LONGEST if name == "respond" else 256})
        for name, role in job.roles.items()
    }
    return job.model_copy(update={"roles": roles})


def play(model: str, variant: Variant, rows: int, sequences: int, scale: float, folder: Path) -> Outcome:
    """One run."""
    card, host = Card(MODELS[model]), Host(scale)
    chat, job = ModelChat.of(folder, None), sao_job()
    texts = Texts(chat)
    processes = []
    for number in range(variant.engines):
        front = Clock()
        engine = make_engine(card, host, front, variant, sequences, folder, texts)
        setup = JobSetup(job, RECIPE.flows["sao"].run, Renderer(chat, job.roles, CONTEXT), 0)
        clock = lambda front=front: host.time(front)  # noqa: E731
        loop = FlowLoop(engine, {"pairs": setup}, max_open_flows(engine.facts), variant.host_seconds, clock)
        mine = range(number, rows, variant.engines)
        loop.add([Task("pairs", row, f"{row:032x}", 1, {"persona": persona(row)}) for row in mine])
        processes.append(Process(loop, front))
    warm_up(RECIPE.flows)
    spare_the_collector()
    marks: list[tuple[float, float, int, int]] = []
    while (done := sum(len(process.records) for process in processes)) < 0.75 * rows:
        process = min((each for each in processes if each.loop.unfinished), key=lambda each: each.clock.now)
        host.switch(process.clock)
        process.loop.advance()
        if host.time(process.clock) - process.spoke > SLICE_SECONDS:
            process.spoke = process.clock.now
            if finished := process.loop.take_finished()["pairs"]:
                Batch.of(finished, RECIPE.flows["sao"].schema)
                process.records += [process.clock.now] * len(finished)
        host.switch(None)
        if not marks and done >= rows / 3:
            marks.append((card.free, card.busy, done, card.written))
            first = card.steps
    begun, busy, before, written = marks[0]
    seconds = card.free - begun
    return Outcome(
        (card.busy - busy) / seconds,
        max(gap for _, gap in card.gaps),
        (done - before) / seconds,
        (card.written - written) / seconds,
        card.costs[first:],
        engine.facts,
    )


def make_engine(
    card: Card, host: Host, front: Clock, variant: Variant, sequences: int, folder: Path, texts: Texts
) -> CardEngine:
    """VLLM's engine with the card's executor: all that `LLM` would make on an H100."""
    from vllm import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    model, back = card.model, Clock() if variant.child else front
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_hidden_layers": model.layers, "num_key_value_heads": model.kv_heads, "hidden_size": model.hidden}
    config |= {"num_attention_heads": model.hidden // model.head_size, "head_dim": model.head_size}
    shape = folder / f"shape-{model.hidden}"
    shutil.copytree(folder, shape, ignore=shutil.ignore_patterns("shape-*"), dirs_exist_ok=True)
    (shape / "config.json").write_text(json.dumps(config))
    arguments = EngineArgs(
        model=str(shape),
        dtype="bfloat16",
        max_model_len=CONTEXT,
        max_num_seqs=sequences,
        max_num_batched_tokens=BATCH_TOKENS,
        enable_prefix_caching=True,
        distributed_executor_backend=executor_of(card, host, back, 1 / variant.engines),
        generation_config="vllm",
        disable_log_stats=True,
        seed=0,
        enforce_eager=True,
        block_size=16,
    )
    made = arguments.create_engine_config(UsageContext.LLM_CLASS)
    made.scheduler_config.async_scheduling = True  # as on CUDA; the CPU platform turns it off
    engine = LLMEngine.from_vllm_config(made, disable_log_stats=True)
    assert engine.engine_core.engine_core.batch_queue_size == 2
    if variant.child:
        engine.engine_core = ChildCore(engine.engine_core.engine_core, host, front, back)
    return CardEngine(engine, sequences, texts)


def tokenizer_folder(out: Path) -> Path:
    """SmolLM2's tokenizer and template, and a config to be given shapes."""
    source = ROOT / "out/smollm2"
    if not source.exists():
        subprocess.run([sys.executable, EXAMPLES / "smollm2/fetch.py", "--out", source], check=True)
    for file in source.iterdir():
        if not file.name.startswith("model"):
            shutil.copy(file, out)
    return out


def fleets(outcome: Outcome, rows_each: int) -> float:
    """Records a second of 1, 8 and 64 engines of the pace that was recorded; returns how well 64 do against 64 times one."""
    sequences, seconds = zip(*outcome.costs, strict=True)
    slope, base = np.polyfit(sequences, seconds, 1)
    pace = Pace(float(base), float(slope))
    rates = {}
    for engines in (1, 8, 64):
        driven = drive(engines, pace, rows_each, outcome.facts)
        rates[engines] = driven.rate
        print(
            f"{engines} engines: {driven}; {driven.rate / (engines * rates[1]):.3f} of {engines} times one", flush=True
        )
    return rates[64] / (64 * rates[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--host-scale", type=float, default=1.0, help="a core of the host takes so many times as long")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help="of an engine at once")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--variants", nargs="*", help="of gather, each step, child, two engines, three engines")
    parser.add_argument("--fleet-rows", type=int, default=3500, help="an engine, of 1, 8 and 64")
    options = parser.parse_args()
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="selfalign-bench-") as place:
        folder = tokenizer_folder(Path(place))
        for model in options.models:
            for name in options.variants or [BEFORE, chosen(model)]:
                begun = time.perf_counter()
                outcome = play(model, VARIANTS[name], options.rows, options.sequences, options.host_scale, folder)
                print(f"{model} {name}: {outcome} ({time.perf_counter() - begun:.0f} s)", flush=True)
                if name == chosen(model):
                    outcomes[model] = outcome
    if len(outcomes) == len(MODELS):
        efficiency = fleets(outcomes["8B"], options.fleet_rows)
        print(f"busy 8B {outcomes['8B'].busy:.3f} 1B {outcomes['1B'].busy:.3f}, 64 engines {efficiency:.3f}")


if __name__ == "__main__":
    main()
