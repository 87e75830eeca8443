"""The parts of the benchmark that hold the device, each in a process of its own: python parts.py PART SETUP.json

What a part finds is printed as lines of JSON behind a mark; an engine then waits to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # bare.py

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine_setup import EngineSpec, engine_arguments, environment

MARK = "@found "
SIDES = ("loop, each step", "loop, gathering", "LLM.generate")


@dataclass(frozen=True)
class Setup:
    """What all parts share."""

    device: str  # GPU or CPU
    model: str
    made: str | None  # the shape of which the model is made; None where the folder is given
    context: int
    rows: int
    answer_tokens: int
    runs: int
    compared: int  # comparisons against float32
    probes: int  # seeded answers, alone and in a crowd
    probe_tokens: int


def found(name: str, value: Any) -> None:
    """Tell whoever started this part."""
    print(f"{MARK}{json.dumps([name, value])}", flush=True)


def model_part(setup: Setup) -> None:
    """Make the model with random weights."""
    from model import SHAPES, make
    from work import TEMPLATE, VERDICTS

    device = "cuda" if setup.device == "GPU" else "cpu"
    make(SHAPES[setup.made or ""], Path(setup.model), device, known=f"{TEMPLATE} {' '.join(VERDICTS)} user assistant")


def reference_part(setup: Setup) -> None:
    """The margins of the comparisons by transformers in float32, from the same weights."""
    import torch
    from transformers import AutoModelForCausalLM
    from work import Work

    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if setup.device == "GPU" else "cpu"
    model = AutoModelForCausalLM.from_pretrained(setup.model, dtype=torch.float32).to(device).eval()
    margins = []
    with torch.inference_mode():
        for request in _work(setup, Work).comparisons[: setup.compared]:
            ids = torch.tensor([request.prompt_ids], device=device)
            logits = model(ids, logits_to_keep=1).logits[0, -1].double()
            margins.append(float(logits[request.task.first] - logits[request.task.second]))
    found("margins", margins)


def engine_part(setup: Setup, *, child: bool) -> None:
    """An engine whose core is in this process, or in a child of it: all that is asked of it."""
    spec = _spec(setup)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if child else "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    start = time.perf_counter()
    llm = LLM(**engine_arguments(spec, Path(setup.model), _capability(setup)))
    found("start", time.perf_counter() - start)
    from work import Work

    from selfalign_jobs.generate.loop import spare_the_collector

    work = _work(setup, Work)
    spare_the_collector()
    if not child:
        _tell_of_the_engine(llm)
        _probe(llm, work, setup)
    ways: tuple[Callable[[], tuple[int, float]], ...] = (
        lambda: work.loop(llm, each_step=True),
        lambda: work.loop(llm, each_step=False),
        lambda: work.bare(llm),
    )
    for name, rates in _measured(dict(zip(SIDES, ways, strict=True)), setup.runs):
        found(name, rates)
    _wait_for_the_end()


def crew_part(setup: Setup) -> None:
    """Two engines that share the device, each in a process of its own: how a step runs a small model on a GPU."""
    spec = _spec(setup)
    from work import FLOW, FixedLengths, Work

    from selfalign_jobs.generate.chat import ModelChat
    from selfalign_jobs.generate.crew import ENGINES, Crew, engines_of
    from selfalign_jobs.generate.host import HostSetup

    work, model = _work(setup, Work), Path(setup.model)
    if setup.device == "GPU" and engines_of(model, spec.means) == 1:
        found("two engines", [])
        _wait_for_the_end()
    host = HostSetup(
        means=spec.means,
        locate=lambda: model,
        make_chat=partial(ModelChat.of, given=None),
        make_engine=partial(FixedLengths, spec, work.lengths),
        jobs={"answers": work.job},
        flows={"answers": FLOW},
        run_seed=0,
        environment=dict,
    )
    crew = Crew(host, model, ENGINES)
    for name, rates in _measured({"two engines": lambda: work.crew(crew)}, setup.runs):
        found(name, rates)
    _wait_for_the_end()


def _spec(setup: Setup) -> EngineSpec:
    """The engine's, in an environment as an actor sets it."""
    means = GenerationMeans(device=setup.device)
    os.environ.update(environment(means, len(os.sched_getaffinity(0))))
    return EngineSpec(EngineSettings(precision="bfloat16", max_model_tokens=setup.context), means)


def _wait_for_the_end() -> None:
    found("processes", [os.getpid(), *_children()])
    found("done", None)
    time.sleep(600)  # killed before


def _work(setup: Setup, kind: Any) -> Any:
    return kind(Path(setup.model), setup.rows, setup.answer_tokens, setup.context)


def _capability(setup: Setup) -> tuple[int, int] | None:
    if setup.device == "CPU":
        return None
    from vllm.platforms import current_platform

    there = current_platform.get_device_capability()
    return None if there is None else (there.major, there.minor)


def _tell_of_the_engine(llm: Any) -> None:
    config = llm.llm_engine.vllm_config
    layers = config.compilation_config.static_forward_context.values()
    backends = {layer.get_attn_backend().get_name() for layer in layers if hasattr(layer, "get_attn_backend")}
    found("attention", sorted(backends))
    found("blocks", [config.cache_config.num_gpu_blocks, config.cache_config.block_size])
    found("sequences", [config.scheduler_config.max_num_seqs, config.scheduler_config.max_num_batched_tokens])
    found("head", str(config.model_config.head_dtype).removeprefix("torch."))


def _probe(llm: Any, work: Any, setup: Setup) -> None:
    """Seeded answers alone and among others and comparisons; the comparisons' margins."""
    from work import margins, samples

    probes, comparisons = work.writes[: setup.probes], work.comparisons[: setup.compared]
    crowd = [*work.writes[setup.probes : 16 * setup.probes], *comparisons]
    alone = [samples(llm, [probe], setup.probe_tokens)[0] for probe in probes]
    llm.reset_prefix_cache()
    mixed = [*crowd[::2], *probes, *crowd[1::2]]
    among = dict(zip([each.id for each in mixed], samples(llm, mixed, setup.probe_tokens), strict=True))
    found("seeds", [_common(ids, among[probe.id]) for ids, probe in zip(alone, probes, strict=True)])
    found("margins", margins(llm, comparisons))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two answers begin with alike."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def _measured(sides: dict[str, Callable[[], tuple[int, float]]], runs: int) -> Iterator[tuple[str, list[float]]]:
    """Tokens a second of each side, after one run that does not count, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs + 1):
        for name, run in sides.items():
            tokens, seconds = run()
            print(f"run {number}, {name}: {tokens} tokens in {seconds:.1f} s", flush=True)
            if number:
                rates[name].append(tokens / seconds)
    yield from rates.items()


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]


def write_setup(setup: Setup, file: Path) -> None:
    """For the processes of the parts."""
    file.write_text(json.dumps(asdict(setup)))


PARTS: dict[str, Callable[[Setup], None]] = {
    "model": model_part,
    "reference": reference_part,
    "engine": lambda setup: engine_part(setup, child=False),
    "child": lambda setup: engine_part(setup, child=True),
    "crew": crew_part,
}

if __name__ == "__main__":
    PARTS[sys.argv[1]](Setup(**json.loads(Path(sys.argv[2]).read_text())))
