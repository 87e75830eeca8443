"""A recipe of several models and trainings as pods on a real kubelet: SynPO, small."""

from __future__ import annotations

from pathlib import Path

import pytest
from gang_run import GangRun, example

from testbed.real_cluster import RealCluster

ROWS = {"demonstrations": 400, "corpus": 400}
MEANS = {"generation": {"replicas": 1}, "training": {"nodes": 2, "zeroStage": 2}, "evaluation": {"replicas": 1}}
SECONDS = 1200


@pytest.mark.timeout(1500)
def test_every_step_of_a_recipe_with_helpers_and_further_trainings_runs_as_pods(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    run = GangRun(cluster, namespace, tmp_path, example("synpo-tiny", ROWS, MEANS))
    run.until_complete(SECONDS)
    steps = [step for step in run.status["steps"] if step["kind"] != "accept"]
    trained = [step["name"] for step in steps if step["kind"] == "train"]
    assert len(trained) == 3, "the prompt generator, the improver, the policy"
    for step in steps:
        assert (step["state"], step["attempts"]) == ("Succeeded", 1)
        run.assert_told_as_published(step["name"])
    for name in trained:
        assert run.manifest(name).model is not None
    assert run.manifest(trained[-1]).result["pairs"] > 0
