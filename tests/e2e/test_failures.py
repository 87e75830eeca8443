"""What a real kubelet says when a run cannot go on, and the message that a person gets of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gang_run import GangRun, tiny

from testbed.real_cluster import RealCluster

ONCE = {"maxRetriesPerStep": 0}
SECONDS = 120


@pytest.fixture
def start(cluster: RealCluster, namespace: str, tmp_path: Path) -> Any:
    """Starts a run of one small step, with parts of its spec replaced."""

    def started(**spec: Any) -> GangRun:
        return GangRun(cluster, namespace, tmp_path, tiny("failing", 64, failurePolicy=ONCE, **spec))

    return started


def test_a_missing_image_is_named_with_what_to_check(start: Any) -> None:
    missing = "localhost/nobody-has-this:1"
    run = start(compute={"device": "CPU", "generation": {"image": missing}})
    message = run.until("Progressing", "False", "ImagePullFailed", SECONDS)["message"]
    assert missing in message
    assert "imagePullSecrets" in message


def test_a_step_over_its_memory_fails_and_says_which_limit_to_raise(start: Any) -> None:
    limits = {"limits": {"memory": "256Mi"}}
    run = start(compute={"device": "CPU", "generation": {"resources": limits}})
    message = run.until("Failed", "True", "RetriesExhausted", SECONDS)["message"]
    assert "resources.limits.memory" in message
    lost = run.step("i1-generate")["lostAttempts"][0]
    assert (lost["reason"], lost["exitCode"], lost["node"]) == ("OutOfMemory", 137, "node")


def test_a_wrong_configuration_that_a_step_finds_is_not_tried_again(start: Any) -> None:
    run = start(model={"url": "pvc://selfalign/nowhere"})
    message = run.until("Accepted", "False", "ModelNotFound", SECONDS)["message"]
    assert "nowhere" in message


def test_a_missing_claim_is_waited_for(start: Any, cluster: RealCluster, namespace: str, tmp_path: Path) -> None:
    run = start(model={"url": "pvc://models/tiny-model/model"})
    message = run.until("Accepted", "False", "ClaimNotFound", SECONDS)["message"]
    assert "models" in message
    cluster.add_claim(namespace, "models", tmp_path / "selfalign", local_to="node")
    run.until("Accepted", "True", seconds=SECONDS)
