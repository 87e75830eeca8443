"""Benchmark: N runs of the three-step plan, from apply to all Complete, beside a script that POSTs their Jobs by hand.

    # a fresh one for every N; its own operator would join in
    PYTHONPATH=tests python -m testbed up --without-operator --default-rates
    python benchmarks/operator/throughput.py --runs 1000
    make cluster-down

The script (by_hand.py) has the same rendered Jobs, accepting included, and POSTs each when the one before it is Complete. Pods are
KWOK's: they end at once with the termination message of their step. Goals: at most 1.2 times its time; at most three API
writes a stage change. A stage change is the end of a step, and with it the beginning of the next.

With `--default-rates` the Job controller decides how fast Jobs come and go (20 requests a second), as on a cluster that
nobody has tuned. Without it the machine's CPU does, which all programs share: what the operator and its objects cost.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import tempfile
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from by_hand import CHAIN, run_chains
from figures import (
    at_once,
    calls_by_verb,
    come_to_rest,
    control_plane,
    cpu_seconds,
    heading,
    make_namespace,
    memory,
    open_kube,
    samples,
    total,
)
from operators import CONFIG, OperatorProcess
from runs import STEPS, run

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.effective import Attempt
from selfalign_operator.kube.resources import RUN
from selfalign_operator.read import run_view
from selfalign_operator.rendering import Manifests

WRITES = ("create", "update", "patch", "delete")
ALL_STEPS = [("accept", "accept", 0), *STEPS]
LOOK_SECONDS, LOOK_OFTEN_SECONDS = 2.0, 0.2  # a look costs the operator 10 ms: often only when the end is near
NEARLY = 0.02  # of the runs are left
STAGE_CHANGES = len(ALL_STEPS)  # each step's end; the first one's beginning is the run's


def main() -> None:
    """Alternate: by hand, the operator."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--kubeconfig", type=Path, default=Path("out/cluster/kubeconfig"))
    parser.add_argument("--times", type=int, default=1, help="how often each of both is measured")
    given = parser.parse_args()
    print(heading(), "\n", flush=True)
    print(
        "| runs | what | apply → all Complete | CPU s | writes a stage change | operator's calls |\n|---|---|---|---|---|---|"
    )
    for _ in range(given.times):
        for measure in (by_hand, by_operator):
            with tempfile.TemporaryDirectory() as folder:
                cells = asyncio.run(measure(given.kubeconfig, given.runs, Path(folder)))
            print(f"| {given.runs} | {measure.__name__} | {cells} |", flush=True)


async def by_operator(kubeconfig: Path, runs: int, folder: Path) -> str:
    """Cells of the table."""
    connection, kube = await open_kube(kubeconfig)
    namespace = f"operator-{uuid.uuid4().hex[:6]}"
    await make_namespace(connection, namespace)
    await come_to_rest(connection)
    operator = OperatorProcess(folder, kubeconfig, "--no-leader-election")
    try:
        operator.wait_ready()
        before, cpu = samples(operator), _cpu(kubeconfig, operator)
        began = time.monotonic()
        manifests = (run(f"run-{each}") for each in range(runs))
        applying = asyncio.create_task(at_once(partial(kube.create, RUN, namespace, each) for each in manifests))
        wanted = total(before, "runs", 'state="Complete"') + runs
        while (left := wanted - total(samples(operator), "runs", 'state="Complete"')) > 0:
            await asyncio.sleep(LOOK_SECONDS if left > runs * NEARLY else LOOK_OFTEN_SECONDS)
        wall = time.monotonic() - began
        await applying
        used, after = _difference(cpu, _cpu(kubeconfig, operator)), samples(operator)
        calls = {verb: count - calls_by_verb(before).get(verb, 0) for verb, count in calls_by_verb(after).items()}
        steps = total(after, "steps_total") - total(before, "steps_total")
        assert steps == runs * STAGE_CHANGES, f"{steps} steps ended"
        first = {
            "create": 2 + 1 + 1 + 3,
            "patch": 1,
        }  # the run's objects, its first Job, its Event, three dry runs; the status
        writes = sum(calls.get(verb, 0) - runs * first.get(verb, 0) for verb in WRITES)
        told = ", ".join(f"{count / runs:.1f} {verb}" for verb, count in sorted(calls.items()))
        now, most = memory(operator.process.pid)
        errors = total(after, "reconcile_errors_total") - total(before, "reconcile_errors_total")
        looks = total(after, "reconcile_duration_seconds_count") - total(before, "reconcile_duration_seconds_count")
        told += f"; {looks / runs:.1f} looks, {errors:.0f} errors; RSS {now:.0f} MB ({most:.0f})"
        return f"{wall:.1f} s | {used} | {writes / runs / STAGE_CHANGES:.2f} | a run: {told}"
    finally:
        operator.stop()
        await connection.close()


async def by_hand(kubeconfig: Path, runs: int, _: Path) -> str:
    """Cells of the table."""
    connection, _ = await open_kube(kubeconfig)
    namespace = f"by-hand-{uuid.uuid4().hex[:6]}"
    await make_namespace(connection, namespace)
    await come_to_rest(connection)
    await connection.close()
    jobs = _rendered(namespace)
    chains = [[_of_chain(job, chain, place) for place, job in enumerate(jobs)] for chain in range(runs)]
    cpu, began = _cpu(kubeconfig), time.monotonic()
    await run_chains(kubeconfig, namespace, chains)
    return f"{time.monotonic() - began:.1f} s | {_difference(cpu, _cpu(kubeconfig))} | | "


def _rendered(namespace: str) -> list[dict[str, Any]]:
    """The Jobs of a run as the operator renders them, without their owner: there is none."""
    config = parse(OperatorConfig, read_yaml(CONFIG, "operator.yaml"), "")
    metadata = {
        "name": "run",
        "namespace": namespace,
        "uid": str(uuid.uuid4()),
        "creationTimestamp": datetime.now(UTC).isoformat(),
    }
    view = run_view(run("run") | {"metadata": metadata})
    assert view is not None
    render = Manifests()
    effective = render.effective(view, config, None)
    made = [render.workload(effective, Attempt(name, kind, iteration, 1)) for name, kind, iteration in ALL_STEPS]
    for job in made:
        del job["metadata"]["ownerReferences"]
    return made


def _of_chain(job: dict[str, Any], chain: int, place: int) -> dict[str, Any]:
    own = copy.deepcopy(job)
    own["metadata"]["name"] = f"chain-{chain}-{place}"
    own["metadata"]["labels"][CHAIN] = f"{chain}.{place}"
    return own


def _cpu(kubeconfig: Path, operator: OperatorProcess | None = None) -> dict[str, float]:
    pids = control_plane(kubeconfig.parent) | ({"operator": operator.process.pid} if operator else {})
    return {name.removeprefix("kube-"): cpu_seconds(pid) for name, pid in pids.items()}


def _difference(before: dict[str, float], after: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds - before[name]:.1f}" for name, seconds in after.items())


if __name__ == "__main__":
    main()
