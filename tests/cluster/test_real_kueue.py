"""Runs in a queue of the real Kueue, on nodes that KWOK plays. `make e2e-more`, where it is there; by hand: test_kueue.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from runs import Run, finish, run, step_is

from selfalign_operator.views import QUEUE_LABEL
from testbed import kueue
from testbed.cluster import Cluster
from testbed.kueue import Kueue
from testbed.waiting import until

pytestmark = [
    pytest.mark.skipif(not kueue.is_here(), reason="NO KUEUE: set KUEUE_MANAGER and KUEUE_CONFIG"),
    pytest.mark.usefixtures("installed", "operator"),
]

GROUP = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
PRIORITY = "kueue.x-k8s.io/priority-class"
GPU = "nvidia.com/gpu"
HANGS = {"trouble": "Hang"}
GENERATE = "i1-generate"


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kueue at work, with a flavor of one node's GPUs and two priorities."""
    kueue = Kueue(cluster, tmp_path_factory.mktemp("kueue"))
    apply(cluster, None, "ResourceFlavor", "gpu-1", {"nodeLabels": {"kubernetes.io/hostname": "gpu-1"}})
    for name, value in (("low", 1), ("high", 100)):
        body = GROUP | {
            "kind": "WorkloadPriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": name,
        }
        cluster.kubectl("apply", "-f=-", stdin=json.dumps(body))
    yield
    kueue.uninstall()


def apply(cluster: Cluster, namespace: str | None, kind: str, name: str, spec: dict[str, Any]) -> None:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    cluster.kubectl("apply", "-f=-", stdin=json.dumps(GROUP | {"kind": kind, "metadata": metadata, "spec": spec}))


def make_queue(cluster: Cluster, namespace: str, gpus: int) -> None:
    """A ClusterQueue with so many GPUs, and the namespace's LocalQueue `team` of it."""
    names = ("cpu", "memory", GPU)
    quotas = [{"name": name, "nominalQuota": gpus if name == GPU else "1Ti"} for name in names]
    groups = [{"coveredResources": list(names), "flavors": [{"name": "gpu-1", "resources": quotas}]}]
    preemption = {"withinClusterQueue": "LowerPriority"}
    whole = {"namespaceSelector": {}, "resourceGroups": groups, "preemption": preemption}
    apply(cluster, None, "ClusterQueue", namespace, whole)
    apply(cluster, namespace, "LocalQueue", "team", {"clusterQueue": namespace})


def queued(cluster: Cluster, namespace: str, name: str, priority: str, *rules: Any, **compute: Any) -> Run:
    """A run on GPUs in the namespace's queue."""
    manifest = run(name, *rules, compute={"device": "GPU"} | compute)
    manifest["metadata"]["labels"] = {QUEUE_LABEL: "team", PRIORITY: priority}
    return Run(cluster, namespace, manifest)


def test_a_gang_is_admitted_whole_to_the_nodes_of_its_flavor(cluster: Cluster, namespace: str) -> None:
    make_queue(cluster, namespace, gpus=8)
    gang = {"generation": {"replicas": 2}}
    made = queued(cluster, namespace, "gang", "low", step_is(GENERATE, **HANGS), **gang)
    made.until_step(GENERATE, "Running")
    until(lambda: [pod.spec.node_name for pod in made.pods(GENERATE)] == ["gpu-1"] * 2, "both pods on gpu-1")
    finish(cluster, made, GENERATE)
    made.until("Complete", "True")
    assert [(each["attempts"], each["failures"]) for each in made.status["steps"]] == [(1, 0)] * 4


def test_a_run_that_finds_no_quota_says_what_kueue_says(cluster: Cluster, namespace: str) -> None:
    make_queue(cluster, namespace, gpus=0)
    made = queued(cluster, namespace, "large", "low")
    made.until_step(GENERATE, "Queued")
    until(lambda: GPU in made.condition("Progressing")["message"], "what Kueue says of it")


def test_a_run_is_preempted_by_another_and_goes_on_after_it_without_a_failure(cluster: Cluster, namespace: str) -> None:
    make_queue(cluster, namespace, gpus=1)
    first = queued(cluster, namespace, "first", "low", step_is(GENERATE, **HANGS))
    first.until_step(GENERATE, "Running")
    second = queued(cluster, namespace, "second", "high")
    first.until_step(GENERATE, "Queued")
    second.until("Complete", "True")
    first.until_step(GENERATE, "Running")
    until(lambda: first.pods(GENERATE), "pod of the first run")
    finish(cluster, first, GENERATE)
    first.until("Complete", "True")
    assert [(each["attempts"], each["failures"]) for each in first.status["steps"]] == [(1, 0)] * 4
