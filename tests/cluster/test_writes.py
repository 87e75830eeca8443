"""What a run costs the apiserver when nothing goes wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from operators import OperatorProcess
from runs import Run, run

from testbed.cluster import Cluster
from testbed.fault_proxy import FaultProxy
from testbed.scripts import Rule, script

# Its own objects (2 without a gang), for each of its 4 steps a Job, a status and an Event, and what it tells beside its steps.
WRITES_OF_A_RUN = 2 + 4 * 3 + 4
SLOWLY = Rule(script(run_seconds=0.4))


def test_without_faults_a_run_costs_few_writes(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    plane = cluster.control_plane
    proxy = FaultProxy(plane.admin, plane.authority, tmp_path)
    operator = OperatorProcess(tmp_path, proxy.kubeconfig, "--no-leader-election", f"--namespace={namespace}")
    try:
        operator.wait_ready()
        Run(cluster, namespace, run("cheap", SLOWLY)).until("Complete", "True")
        writes = [call for call in proxy.calls if call.is_write]
        assert len(writes) <= WRITES_OF_A_RUN, Counter((call.method, call.path.rsplit("/", 1)[-1]) for call in writes)
        assert operator.stop() == 0
    finally:
        operator.stop(9)  # type: ignore[arg-type]
        proxy.close()
