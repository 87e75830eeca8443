"""Ranks in the network of their nodes: two gangs share the nodes, for their ports differ, and the scheduler sees to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from operators import CONFIG, OperatorProcess
from runs import Run, run, step_is

from testbed.cluster import Cluster
from testbed.waiting import until

RDMA = CONFIG + "profiles: {default: {hostNetwork: true, capabilities: [IPC_LOCK]}}\n"


def host_ports(pod: Any) -> set[int]:
    return {port.host_port for port in pod.spec.containers[0].ports}


def test_two_gangs_share_two_nodes_and_no_port_of_these(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    operator = OperatorProcess(tmp_path, cluster.kubeconfig, f"--namespace={namespace}", config=RDMA)
    try:
        gang = {"training": {"nodes": 2}, "generation": {"replicas": 2}}
        hangs = step_is("i1-train", trouble="Hang")
        runs = [Run(cluster, namespace, run(name, hangs, compute=gang)) for name in ("first", "second")]

        def ranks() -> list[Any]:
            found = [pod for made in runs for pod in made.pods("i1-train") if pod.status.phase == "Running"]
            return found if len(found) == 4 else []

        placed = until(ranks, "two gangs of two ranks", 120)
        assert all(pod.spec.host_network and len(host_ports(pod)) == 2 for pod in placed)
        for node in {pod.spec.node_name for pod in placed}:
            here = [pod for pod in placed if pod.spec.node_name == node]
            assert len({pod.metadata.labels["selfalign.dev/run"] for pod in here}) == len(here) == 2
            assert host_ports(here[0]).isdisjoint(host_ports(here[1]))
        engines = [pod for made in runs for pod in made.pods("i1-generate")]
        assert not any(pod.spec.host_network for pod in engines)
    finally:
        operator.stop()
