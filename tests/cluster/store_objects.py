"""What a version of the operator stores, from a real apiserver: a run of every state, its plan and Jobs, the Lease.

    PYTHONPATH=tests python tests/cluster/store_objects.py tests/stored/2026-11-27 --of CHECKOUT

CHECKOUT is one of that version, whose own operator and CRD store them; without it this one's do. Every release adds its own:
tests/unit/test_stored_objects.py and tests/cluster/test_stored_objects.py hold that later ones read them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client
from operators import OperatorProcess
from runs import Run, attempt_is, run, step_is

from testbed.cluster import Cluster
from testbed.waiting import until

NAMESPACE = "stored"
CONFIG = """
images: {generate: "example.invalid/generate:1", train: "example.invalid/train:1"}
profiles:
  default:
    maxGpus: 8
    compute: {podTemplate: {spec: {tolerations: [{key: nvidia.com/gpu, operator: Exists}]}}}
network:
  progress: [{namespace: monitoring}]
"""
HANGS: dict[str, Any] = {"trouble": "Hang"}
FAILS: dict[str, Any] = {"exit_code": 1, "message": {"error": "scripted"}}
HOLDS = {"maxRetriesPerStep": 1, "afterRetries": "Hold", "backoffSeconds": 0, "maxBackoffSeconds": 1}
STEP = "i1-train"  # whose Jobs are kept


def main() -> None:
    """Drive the runs there, and write down what is stored."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole.add_argument("folder", type=Path)
    whole.add_argument("--of", type=Path, default=Path(__file__).parents[2], metavar="CHECKOUT")
    given = whole.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        control_plane = Path(folder) / "cluster"
        control_plane.mkdir()
        cluster = Cluster(control_plane)
        try:
            cluster.add_crd(given.of / "crds" / "selfalignmentruns.yaml")
            cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
            os.environ["PYTHONPATH"] = os.pathsep.join(str(given.of / part) for part in ("crds", "jobs", "operator"))
            where = (f"--namespace={NAMESPACE}", f"--lease-namespace={NAMESPACE}")
            operator = OperatorProcess(Path(folder) / "operator", cluster.kubeconfig, *where, config=CONFIG)
            drive(cluster)
            write(cluster, given.folder)
            operator.stop()
        finally:
            cluster.stop()


def drive(cluster: Cluster) -> None:
    """A run of every state: Complete, Failed, Held, Suspended, and Running, of these a gang and one at its second attempt."""

    def made(name: str, *rules: Any, **spec: Any) -> Run:
        return Run(cluster, NAMESPACE, run(name, *rules, **spec))

    complete, gang = made("complete"), {"generation": {"replicas": 2}}
    failed = made("failed", step_is("i1-evaluate", exit_code=64, message={"error": "scripted"}))
    held = made("held", *(attempt_is(STEP, number, **FAILS) for number in (1, 2)), failurePolicy=HOLDS)
    running = made("running", attempt_is(STEP, 1, **HANGS), compute=gang)
    retried = made("retried", attempt_is(STEP, 1, **FAILS), attempt_is(STEP, 2, **HANGS))
    suspended = made("suspended", attempt_is("i1-generate", 1, **HANGS))
    complete.until("Complete", "True")
    failed.until("Failed", "True")
    held.until("Progressing", "False", "Held")
    for each in (running, retried):
        until(partial(has_pod, each), f"pod of {each.name}")
    until(lambda: [pod for pod in suspended.pods("i1-generate") if pod.status.phase == "Running"], "pod to suspend")
    suspended.patch({"spec": {"suspend": True}})
    suspended.until("Suspended", "True")
    for each in (running, retried):
        each.until("Progressing", "True", "StepRunning")


def has_pod(made: Run) -> bool:
    """Whether one of its Jobs has a pod that is ready."""
    return any(job.status.ready for job in made.jobs())


def write(cluster: Cluster, folder: Path) -> None:
    """Of each kind a file with a list of objects."""
    folder.mkdir(parents=True, exist_ok=True)

    def stored(kind: str, *options: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(cluster.kubectl("get", kind, f"-n={NAMESPACE}", "-o=json", *options))[
            "items"
        ]
        for each in items:
            each["metadata"].pop("managedFields", None)
        return items

    ours = "-l=selfalign.dev/run-uid"
    kinds = {
        "selfalignmentruns": stored("selfalignmentruns"),
        "configmaps": stored("configmaps", ours),
        "jobs": stored("jobs", f"{ours},selfalign.dev/step={STEP}"),
        "lease": stored("leases"),
    }
    for kind, items in kinds.items():
        (folder / f"{kind}.json").write_text(json.dumps(items, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
