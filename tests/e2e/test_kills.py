"""One run whose pods are killed one after the other, and one that a person suspends in each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gang_run import STEPS, GangRun, tiny
from installation import NAMESPACE
from kubernetes import client

from testbed.real_cluster import RealCluster
from testbed.waiting import until

pytestmark = pytest.mark.timeout(1200)
MANY, FEW = 6000, 2000  # personas: enough to be killed twice among them; enough to be stopped among them
Start = Callable[[int], GangRun]
SECONDS = 600
AT_ONCE = {"backoffSeconds": 0, "maxBackoffSeconds": 1}
OFTEN = {"checkpointIntervalSeconds": 5}


@pytest.fixture
def start(cluster: RealCluster, namespace: str, tmp_path: Path) -> Start:
    """Starts a run of so many personas."""

    def started(personas: int) -> GangRun:
        manifest = tiny("sao-tiny", personas, failurePolicy=AT_ONCE)
        manifest["spec"]["compute"]["training"] |= OFTEN
        return GangRun(cluster, namespace, tmp_path, manifest)

    return started


def test_a_run_outlives_the_loss_of_each_of_its_pods_and_of_the_operators_leader(
    start: Start, cluster: RealCluster
) -> None:
    run = start(MANY)
    for index in (1, 0):  # a helper, then the head
        records = run.until_records_after(0, SECONDS)
        lost = run.until_runs("i1-generate", index, SECONDS)
        cluster.node.kill(lost)
        run.until_runs("i1-generate", index, SECONDS, after=lost.metadata.uid)
    run.until_records_after(records, SECONDS)
    run.until_checkpoint(SECONDS)
    cluster.node.kill(run.until_runs("i1-train", 1, SECONDS))
    run.until_step("i1-train", "Running", attempts=2, seconds=SECONDS)
    before = leader(cluster)
    cluster.node.kill(cluster.core.read_namespaced_pod(before, NAMESPACE))
    until(lambda: leader(cluster) not in ("", before), "another leader", 60)
    run.until_complete(SECONDS)
    run.assert_every_persona_once(MANY)
    generate, train = run.step("i1-generate"), run.step("i1-train")
    assert (generate["attempts"], generate["failures"]) == (1, 0)  # its Job has made the pods anew
    assert [lost["reason"] for lost in train["lostAttempts"]] == ["StepFailed"]
    assert run.manifest("i1-train").attempt == 2


def test_a_run_goes_on_where_it_was_after_a_suspension_in_each_step(start: Start) -> None:
    run = start(FEW)
    for step, under_way in (
        ("i1-generate", lambda: run.until_records_after(0, SECONDS)),
        ("i1-train", lambda: run.until_checkpoint(SECONDS)),
        ("i1-evaluate", lambda: run.until_runs("i1-evaluate", 0, SECONDS)),
    ):
        under_way()
        run.patch({"spec": {"suspend": True}})
        run.until("Suspended", "True", seconds=120)
        until(lambda step=step: not run.running(step), f"end of the pods of {step}", 120)
        run.patch({"spec": {"suspend": False}})
    run.until_complete(SECONDS)
    run.assert_every_persona_once(FEW)
    for step in STEPS:
        told = run.step(step)
        assert (told["attempts"], told["failures"]) == (2, 0), told
        assert [lost["reason"] for lost in told["lostAttempts"]] == ["Suspended"]


def leader(cluster: RealCluster) -> str:
    """The pod whose operator holds the Lease; empty between two."""
    leases = client.CoordinationV1Api(cluster.api)
    holder: str = leases.read_namespaced_lease("selfalign-operator", NAMESPACE).spec.holder_identity or ""
    return holder.partition("_")[0]
