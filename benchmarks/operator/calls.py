"""Benchmark: CPU that a call of each kind costs the control plane: what throughput.py cannot go below.

    PYTHONPATH=tests python -m testbed up --without-operator   # idle, and nothing else on the machine
    python benchmarks/operator/calls.py
    make cluster-down

Counted is what the programs of the control plane use until it has come to rest, less what they use idle, divided by the
calls: with what the controllers make of an object (the Endpoints of a Service; the Jobs are suspended, so no pods).
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from figures import at_once, control_plane, cpu_seconds, heading, make_namespace, open_kube
from operators import CONFIG
from runs import STEPS, run

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.kube.client import Kube
from selfalign_operator.kube.resources import POD, RUN, RUN_EVENT, resource_of
from selfalign_operator.read import run_view
from selfalign_operator.rendering import Manifests
from selfalign_operator.workloads.objects import service

IDLE_SECONDS = 8.0
REST_SECONDS = 3.0
TIME = "2026-11-24T10:00:00.000000Z"
Call = Callable[[], Awaitable[Any]]


@dataclass
class Meter:
    """CPU time of the control plane's programs."""

    pids: dict[str, int]
    idle: float = 0.0  # seconds a second

    def used(self) -> float:
        """Seconds so far."""
        return sum(map(cpu_seconds, self.pids.values()))

    async def rest(self) -> None:
        """See what it uses when nothing is asked of it."""
        before = self.used()
        await asyncio.sleep(IDLE_SECONDS)
        self.idle = (self.used() - before) / IDLE_SECONDS

    async def row(self, what: str, calls: Sequence[Call]) -> None:
        """Make the calls; a row of the table."""
        before, began = self.used(), time.monotonic()
        await at_once(calls)
        await asyncio.sleep(REST_SECONDS)
        cost = self.used() - before - self.idle * (time.monotonic() - began)
        print(f"| {what} | {1000 * cost / len(calls):.1f} ms |", flush=True)


def main() -> None:
    """A row for each kind of call."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=300, help="of each kind")
    parser.add_argument("--kubeconfig", type=Path, default=Path("out/cluster/kubeconfig"))
    given = parser.parse_args()
    print(heading(), "\n\n| call | CPU |\n|---|---|", flush=True)
    asyncio.run(measure(given.kubeconfig, given.calls))


async def measure(kubeconfig: Path, number: int) -> None:
    """All rows. The runs have no operator: their status is written here."""
    connection, kube = await open_kube(kubeconfig)
    namespace = f"calls-{uuid.uuid4().hex[:6]}"
    await make_namespace(connection, namespace)
    meter = Meter(control_plane(kubeconfig.parent))
    made: dict[str, dict[str, Any]] = {}

    async def make(name: str) -> None:
        made[name] = await kube.create(RUN, namespace, run(name))

    async def tell(name: str, steps: int) -> None:
        metadata = {"name": name, "resourceVersion": made[name]["metadata"]["resourceVersion"]}
        manifest = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": metadata, "status": _status(steps)}
        made[name] = await kube.apply_status(RUN, namespace, manifest)

    await at_once(partial(make, f"first-{each}") for each in range(number))  # the apiserver warms up
    await meter.rest()
    names = [f"run-{each}" for each in range(number)]
    await meter.row("create a SelfAlignmentRun", [partial(make, name) for name in names])
    for steps in (1, 2, len(STEPS) + 1):
        await meter.row(f"apply its status, of {steps} steps", [partial(tell, name, steps) for name in names])
    await _children(meter, kube, namespace, [_effective(made[name]) for name in names])
    await connection.call("DELETE", f"/api/v1/namespaces/{namespace}")
    await connection.close()


async def _children(meter: Meter, kube: Kube, namespace: str, runs: list[EffectiveRun]) -> None:
    """What is made and asked for runs."""

    def create(manifest: dict[str, Any], dry_run: bool = False) -> Call:
        return partial(kube.create, resource_of(manifest), namespace, manifest, dry_run=dry_run)

    render = Manifests()
    for kind, manifests in {
        "ConfigMap": [render.run_objects(each)[0] for each in runs],
        "NetworkPolicy": [render.run_objects(each)[1] for each in runs],
        "Service (of gangs only)": [service(each) for each in runs],
    }.items():
        await meter.row(f"create a {kind}", [create(manifest) for manifest in manifests])
    jobs = [render.workload(each, Attempt("i1-train", "train", 1, 1)) for each in runs]
    for job in jobs:
        job["spec"]["suspend"] = True
    await meter.row("dry run of a Job", [create(job, dry_run=True) for job in jobs])
    await meter.row("create a Job, and its controller's answer", [create(job) for job in jobs])
    events = [partial(kube.create, RUN_EVENT, namespace, _event(each)) for each in runs]
    await meter.row("create an Event", events)
    lists = [partial(kube.list, POD, namespace, labels=f"selfalign.dev/run-uid={each.uid}") for each in runs]
    await meter.row("list a run's pods, of which there are none", lists)


def _effective(made: dict[str, Any]) -> EffectiveRun:
    view = run_view(made)
    assert view is not None
    return Manifests().effective(view, parse(OperatorConfig, read_yaml(CONFIG, "operator.yaml"), ""), None)


def _status(count: int) -> dict[str, Any]:
    """As large as the operator's when so many steps are done."""
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "StepStarting",
            "message": f"{count} starts",
            "observedGeneration": 1,
        }
        for kind in ("Accepted", "Progressing", "Suspended", "Complete", "Failed")
    ]
    steps = [
        {"name": name, "kind": kind, "iteration": iteration, "state": "Succeeded", "attempts": 1, "startTime": TIME}
        | {"completionTime": TIME, "digest": "sha256:1", "url": f"s3://runs/ns/run/iter-1/{name}"}
        | {"workload": {"apiVersion": "batch/v1", "kind": "Job", "name": f"run-0-{name}-1", "uid": str(uuid.uuid4())}}
        | {"result": [{"name": each, "value": "3533"} for each in ("pairs", "win.value", "win.low", "win.high")]}
        for name, kind, iteration in [("accept", "accept", 0), *STEPS][:count]
    ]
    conditions = [each | {"lastTransitionTime": TIME} for each in conditions]
    return {"observedGeneration": 1, "state": "Running", "startTime": TIME, "conditions": conditions, "steps": steps}


def _event(of: EffectiveRun) -> dict[str, Any]:
    about = {"apiVersion": RUN.api_version, "kind": RUN.kind, "namespace": of.namespace, "name": of.name, "uid": of.uid}
    return {
        "apiVersion": RUN_EVENT.api_version,
        "kind": RUN_EVENT.kind,
        "metadata": {"name": f"{of.name}.{uuid.uuid4().hex[:16]}", "namespace": of.namespace},
        "eventTime": TIME,
        "reportingController": "benchmark",
        "reportingInstance": "benchmark",
        "action": "Reconcile",
        "reason": "StepStarted",
        "type": "Normal",
        "regarding": about,
        "note": "i1-train starts",
    }


if __name__ == "__main__":
    main()
