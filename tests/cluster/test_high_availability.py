"""Two replicas with real runs: the other one takes over when the leader dies or is cut off, and a loser writes nothing.

The process alone, SIGTERM too, is in test_process.py. A clock that jumps is in tests/unit/test_process_lease.py, where the
Elector is given the clock: the machine's own cannot be moved by a test.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from operators import OperatorProcess, stop_all
from runs import Run, attempt_is, run

from testbed.cluster import Cluster
from testbed.fault_proxy import FaultProxy
from testbed.waiting import until

TAKEOVER_SECONDS = 20.0


class Pair:
    """Two replicas with a namespace and a Lease of their own; the first one leads, and all it says goes through a proxy."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        plane = cluster.control_plane
        self.proxy = FaultProxy(plane.admin, plane.authority, folder / "proxy")
        self.first = self.start("first", self.proxy.kubeconfig)
        until(lambda: leads(self.first), "first leader")
        self.second = self.start("second", plane.admin)

    def start(self, name: str, kubeconfig: Path) -> OperatorProcess:
        operator = OperatorProcess(
            self.folder / name, kubeconfig, f"--namespace={self.namespace}", f"--lease-namespace={self.namespace}"
        )
        operator.wait_ready()
        return operator

    def stop(self) -> None:
        stop_all([self.first, self.second])
        self.proxy.close()


def leads(operator: OperatorProcess) -> bool:
    return "leader: yes" in (operator.read("/readyz") or "")


def until_it_leads(operator: OperatorProcess, seconds: float) -> float:
    """Seconds that it took. Raises TimeoutError after `seconds`."""
    begin = time.monotonic()
    until(lambda: leads(operator), "takeover", seconds)
    return time.monotonic() - begin


@pytest.fixture
def pair(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(cluster, namespace, tmp_path)
    try:
        yield pair
    finally:
        pair.stop()


def test_a_killed_leader_is_followed_in_20_seconds_and_its_run_goes_on(pair: Pair) -> None:
    made = Run(pair.cluster, pair.namespace, run("orphan", attempt_is("i1-generate", 1, trouble="Hang")))
    until(lambda: made.pods("i1-generate"), "pod of generate")
    pair.first.stop(signal.SIGKILL)
    took = until_it_leads(pair.second, TAKEOVER_SECONDS)
    (pod,) = made.pods("i1-generate")
    pair.cluster.core.delete_namespaced_pod(pod.metadata.name, pair.namespace)
    made.until("Complete", "True")
    assert took > 5, "the Lease of a leader that may live was not waited for"


def test_a_leader_that_is_cut_off_is_followed_in_20_seconds_and_stands_by_afterwards(pair: Pair) -> None:
    made = Run(pair.cluster, pair.namespace, run("cut-off"))
    pair.proxy.block(lambda _method, _path: True)
    until_it_leads(pair.second, TAKEOVER_SECONDS)
    assert not leads(pair.first)
    made.until("Complete", "True")
    written = [call for call in pair.proxy.calls if call.is_write]
    pair.proxy.block(None)
    later = Run(pair.cluster, pair.namespace, run("later"))
    later.until("Complete", "True")
    until(lambda: "leader: no" in (pair.first.read("/readyz") or ""), "standby that is ready again")
    assert [call for call in pair.proxy.calls if call.is_write] == written


def test_a_leader_that_cannot_renew_its_lease_writes_nothing_though_it_could(pair: Pair) -> None:
    """Only the way to the Lease is cut: what keeps the loser from writing is its own clock."""
    pair.proxy.block(lambda _method, path: "/leases/" in path)
    runs = [Run(pair.cluster, pair.namespace, run(f"early-{number}")) for number in range(3)]
    until(lambda: not leads(pair.first), "end of the leadership", TAKEOVER_SECONDS, pause=0.02)
    ended = pair.proxy.now()
    until_it_leads(pair.second, TAKEOVER_SECONDS)
    runs += [Run(pair.cluster, pair.namespace, run(f"late-{number}")) for number in range(3)]
    for made in runs:
        made.until("Complete", "True")
    under_way = 3.5  # a write that had begun (client.WRITE_SECONDS)
    assert [call for call in pair.proxy.calls if call.is_write and call.seconds > ended + under_way] == []
    attempts = [step["attempts"] for made in runs for step in made.status["steps"]]
    assert attempts == [1] * len(attempts)
