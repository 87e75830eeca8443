"""Gangs by the real coscheduling of scheduler-plugins, on nodes that KWOK plays. `make e2e-more`: it is built first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operators import CONFIG, OperatorProcess
from runs import Run, finish, run, step_is

from testbed.binaries import GANGS, build
from testbed.cluster import Cluster
from testbed.coscheduling import pod_group_crd, start_scheduler
from testbed.waiting import until

GENERATE = "i1-generate"
# Of two nodes with 8 GPUs each; the other steps find room beside such a gang.
NODES_OF_FIVE_GPUS = {
    "device": "GPU",
    "generation": {"replicas": 2, "tensorParallelSize": 5},
    "evaluation": {"replicas": 1, "tensorParallelSize": 1},
}
PROFILE = "profiles: {default: {gangScheduling: {type: Coscheduling}}}\n"


@pytest.fixture(scope="module", autouse=True)
def _installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    build(GANGS)
    cluster.add_crd(pod_group_crd())
    scheduler = start_scheduler(cluster, tmp_path_factory.mktemp("coscheduling"))
    yield
    scheduler.stop()


@pytest.fixture(name="operator", autouse=True)
def _operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    options = ("--no-leader-election", f"--namespace={namespace}")
    operator = OperatorProcess(tmp_path, cluster.kubeconfig, *options, config=CONFIG + PROFILE)
    operator.wait_ready()
    yield operator
    operator.stop()


@pytest.mark.timeout(900)
def test_of_two_gangs_that_share_the_room_of_one_both_end_one_after_the_other(cluster: Cluster, namespace: str) -> None:
    """One by one, each would get one node of the two, and hold it for ever."""
    hangs = step_is(GENERATE, trouble="Hang")
    runs = [Run(cluster, namespace, run(name, hangs, compute=NODES_OF_FIVE_GPUS)) for name in ("first", "second")]
    for made in runs:
        until(lambda made=made: len(made.pods(GENERATE)) == 2, f"both pods of {made.name}")

    def placed(made: Run) -> int:
        return sum(pod.spec.node_name is not None for pod in made.pods(GENERATE))

    ahead = until(lambda: next((made for made in runs if placed(made) == 2), None), "a gang that is placed whole")
    behind = next(made for made in runs if made is not ahead)
    behind.until("Progressing", "False", "Unschedulable")
    assert placed(behind) == 0
    finish(cluster, ahead, GENERATE)
    ahead.until("Complete", "True")
    until(lambda: placed(behind) == 2, "the other gang placed whole", 120)
    finish(cluster, behind, GENERATE)
    behind.until("Complete", "True")


def test_a_gang_that_is_tried_again_takes_the_same_group(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("again", step_is(GENERATE, trouble="Hang"), compute=NODES_OF_FIVE_GPUS))
    until(lambda: len([pod for pod in made.pods(GENERATE) if pod.spec.node_name]) == 2, "a gang that is placed whole")
    made.patch({"spec": {"suspend": True}})
    until(lambda: not made.pods(GENERATE), "no pods")
    made.patch({"spec": {"suspend": False}})
    made.until_step(GENERATE, "Running", attempts=2)
    until(lambda: len([pod for pod in made.pods(GENERATE) if pod.spec.node_name]) == 2, "the gang placed again")
    finish(cluster, made, GENERATE)
    made.until("Complete", "True")
