"""The other recipes' tiny examples, small, as pods on a real kubelet, each step killed once: nothing is lost, none doubled.

Helpers, further trainings, gangs of two that train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gang_run import GangRun, example
from kubernetes import client

from testbed.real_cluster import RealCluster
from testbed.scripts import INDEX_LABEL
from testbed.waiting import until

MEANS = {"generation": {"replicas": 1}, "training": {"nodes": 2, "zeroStage": 2}, "evaluation": {"replicas": 1}}
RECIPES = {  # rows of each source, and how many models are trained
    "pairs-tiny": ({"preferences": 400}, 1),
    "spin-tiny": ({"demonstrations": 400}, 1),
    "selm-tiny": ({"preferences": 200}, 2),
    "fspo-tiny": ({"preferences": 400}, 2),
    "reversegen-tiny": ({"prompts": 400}, 3),
    "synpo-tiny": ({"demonstrations": 400, "corpus": 400}, 3),
    "almost-tiny": ({"prompts": 400}, 2),
    "pit-tiny": ({"preferences": 400}, 4),
}
AT_ONCE = {"backoffSeconds": 0, "maxBackoffSeconds": 1}
SECONDS = 1200


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_whose_every_step_is_killed_ends_as_it_should(
    cluster: RealCluster, namespace: str, tmp_path: Path, name: str
) -> None:
    rows, models = RECIPES[name]
    run = GangRun(cluster, namespace, tmp_path, example(name, rows, MEANS, failurePolicy=AT_ONCE))
    for step in planned(run):
        lost = until_under_way(run, step)
        cluster.node.kill(lost)
        assert not run.has_ended(step), f"{step} ended before it was killed"
        run.until_runs(step, index_of(lost), SECONDS, after=lost.metadata.uid)
    run.until_complete(SECONDS)
    steps = [step for step in run.status["steps"] if step["kind"] != "accept"]
    for step in steps:
        assert step["state"] == "Succeeded"
        run.assert_told_as_published(step["name"])
        if step["kind"] != "train":
            run.assert_every_row_once(step["name"])
    trained = [step["name"] for step in steps if step["kind"] == "train"]
    assert len(trained) == models
    for each in trained:
        manifest = run.manifest(each)
        assert manifest.model is not None
        assert manifest.attempt == 2
    assert run.manifest(trained[-1]).result["pairs"] > 0
    assert run.folder.exists("report.html")


def planned(run: GangRun) -> list[str]:
    """The steps after accept, once it has made the plan."""

    def look() -> list[str]:
        steps: list[dict[str, Any]] = run.status.get("steps", [])
        return [step["name"] for step in steps if step["kind"] != "accept"]

    return until(look, f"plan of {run.name}", SECONDS)


def until_under_way(run: GangRun, step: str) -> client.V1Pod:
    """The last pod of a step, once all run and a table is durable from which a later attempt goes on."""
    until(lambda: run.step(step)["state"] == "Running" and run.folder_of(step).files("prepared"), step, SECONDS, 0.2)
    return max(run.running(step), key=index_of)


def index_of(pod: client.V1Pod) -> int:
    """Its place in the gang."""
    return int(pod.metadata.labels[INDEX_LABEL])
