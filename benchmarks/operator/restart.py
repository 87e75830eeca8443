"""Benchmark: the operator starts where N runs are, 10 % of them active with a Job and a hanging pod, the rest finished.

    PYTHONPATH=tests python -m testbed up --without-operator   # a fresh one for every N; its own operator would join in
    python benchmarks/operator/restart.py fill --runs 1000
    python benchmarks/operator/restart.py measure --runs 1000
    make cluster-down

From the start of its process until every run was looked at once and none waits: wall time and memory; then its share of a
core while nothing happens. Its goals: 1 000 runs < 5 s, < 150 MB, < 2 % of a core; 10 000: < 30 s, < 250 MB. Beside it the
floor: bare Kopf with `on.event` and one status patch a run. No pod answers /progress (KWOK's have no network).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from figures import (
    at_once,
    calls_by_verb,
    cpu_seconds,
    heading,
    make_namespace,
    memory,
    open_kube,
    samples,
    total,
)
from operators import OperatorProcess
from runs import run, step_is

from selfalign_operator.kube.client import ApiError, Kube
from selfalign_operator.kube.resources import RUN
from testbed.waiting import until

SPACE = "many-runs"
ACTIVE_SHARE = 10  # one of so many
REST_SECONDS = 60.0
HANGS = step_is("i1-generate", trouble="Hang")


def main() -> None:
    """One of two commands."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("fill", "measure"))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--kubeconfig", type=Path, default=Path("out/cluster/kubeconfig"))
    parser.add_argument("--times", type=int, default=3, help="how often it is started")
    parser.add_argument("--no-rest", action="store_true", help="do not wait for the share of a core at rest")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.command == "fill":
            asyncio.run(fill(given.kubeconfig, given.runs, Path(folder)))
            return
        print(heading(), "\n", flush=True)
        print(
            "| runs | what | until converged | RSS then (peak) | CPU | calls | at rest |\n|---|---|---|---|---|---|---|"
        )
        for each in range(given.times):
            rest = 0.0 if given.no_rest or each else REST_SECONDS
            print(
                f"| {given.runs} | the operator | {measure(given.kubeconfig, given.runs, Path(folder), rest)} |",
                flush=True,
            )
        print(f"| {given.runs} | floor | {measure_floor(given.kubeconfig, given.runs)} | | |")


# --- many runs --------------------------------------------------------------------------------------------------------


async def fill(kubeconfig: Path, runs: int, folder: Path) -> None:
    """The active ones by the operator itself; one run taken to its end by it, and copies of that one. May be repeated."""
    connection, kube = await open_kube(kubeconfig)
    await make_namespace(connection, SPACE)
    active = [run(f"active-{each}", HANGS) for each in range(runs // ACTIVE_SHARE)]
    operator = OperatorProcess(folder, kubeconfig, "--no-leader-election")
    try:
        await at_once(partial(_create, kube, each) for each in (run("finished-0"), *active))
        while total(samples(operator), "queue_depth") or await _writes_still(operator):
            print(f"{total(samples(operator), 'queue_depth'):.0f} runs wait for the operator", flush=True)
    finally:
        operator.stop()
    found = await kube.get(RUN, SPACE, "finished-0")
    assert found is not None and found["status"]["state"] == "Complete"
    names = [f"finished-{each}" for each in range(1, runs - len(active))]
    await at_once(partial(_write_finished, kube, name, found["status"]) for name in names)
    await connection.close()
    print(f"{len(active)} active, {len(names) + 1} finished runs")


async def _writes_still(operator: OperatorProcess) -> bool:
    """Whether a status was written in the last half minute and more: the last write of a start waits so long."""
    before = calls_by_verb(samples(operator)).get("patch", 0)
    await asyncio.sleep(35)
    return calls_by_verb(samples(operator)).get("patch", 0) > before


async def _create(kube: Kube, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The run; None when it is there already."""
    try:
        return await kube.create(RUN, SPACE, manifest)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        return None


async def _write_finished(kube: Kube, name: str, status: dict[str, Any]) -> None:
    made = await _create(kube, run(name))
    if made is not None:
        await kube.replace(RUN, SPACE, made | {"status": status}, part="status")


# --- one start --------------------------------------------------------------------------------------------------------


def measure(kubeconfig: Path, runs: int, folder: Path, rest: float) -> str:
    """Cells of the table: seconds, memory, CPU seconds, calls, share of a core at rest."""
    began = time.monotonic()
    operator = OperatorProcess(folder, kubeconfig, "--no-leader-election")
    try:
        until(lambda: _has_converged(operator, runs), "converged runs", seconds=240, pause=0.1)
        wall = time.monotonic() - began
        pid = operator.process.pid
        (now, most), cpu, said = memory(pid), cpu_seconds(pid), samples(operator)
        calls = ", ".join(f"{count} {verb}" for verb, count in sorted(calls_by_verb(said).items()))
        errors = total(said, "reconcile_errors_total")
        share = f"{_share_at_rest(pid, rest):.1f} %" if rest else ""
        if rest:
            share += f", {memory(pid)[0]:.0f} MB"
        note = f" ({errors:.0f} errors)" if errors else ""
        return f"{wall:.1f} s{note} | {now:.0f} MB ({most:.0f}) | {cpu:.1f} s | {calls} | {share}"
    finally:
        operator.stop()


def _has_converged(operator: OperatorProcess, runs: int) -> bool:
    said = samples(operator)
    seen = total(said, "runs"), total(said, "reconcile_duration_seconds_count")
    waits = total(said, "queue_depth") + total(said, "longest_work_seconds")
    return min(seen) >= runs and waits == 0


def _share_at_rest(pid: int, seconds: float) -> float:
    """Percent of a core."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / seconds


def measure_floor(kubeconfig: Path, runs: int) -> str:
    """Cells of the table: seconds, memory, CPU seconds."""
    began = time.monotonic()
    command = [sys.executable, str(Path(__file__).with_name("floor.py")), str(runs)]
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as floor:
        assert floor.stdout is not None
        line = floor.stdout.readline()
        wall = time.monotonic() - began
        assert line.startswith("patched"), "the floor has failed: try floor.py alone"
        (now, most), cpu = memory(floor.pid), cpu_seconds(floor.pid)
        os.kill(floor.pid, signal.SIGKILL)
    return f"{wall:.1f} s | {now:.0f} MB ({most:.0f}) | {cpu:.1f} s"


if __name__ == "__main__":
    main()
