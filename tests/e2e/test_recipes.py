"""The other recipes' tiny examples, small, as pods on a real kubelet: helpers, further trainings, gangs of two that train."""

from __future__ import annotations

from pathlib import Path

import pytest
from gang_run import GangRun, example

from testbed.real_cluster import RealCluster

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
SECONDS = 1200


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", RECIPES)
def test_every_step_of_a_recipe_s_example_runs_as_pods(
    cluster: RealCluster, namespace: str, tmp_path: Path, name: str
) -> None:
    rows, models = RECIPES[name]
    run = GangRun(cluster, namespace, tmp_path, example(name, rows, MEANS))
    run.until_complete(SECONDS)
    steps = [step for step in run.status["steps"] if step["kind"] != "accept"]
    trained = [step["name"] for step in steps if step["kind"] == "train"]
    assert len(trained) == models
    for step in steps:
        assert (step["state"], step["attempts"]) == ("Succeeded", 1)
        run.assert_told_as_published(step["name"])
    for each in trained:
        assert run.manifest(each).model is not None
    assert run.manifest(trained[-1]).result["pairs"] > 0
    assert run.folder.exists("report.html")
