"""Runs that go by their figures, on a real control plane: a gate that is not passed ends one, and is not tried again."""

from __future__ import annotations

import pytest
from runs import Run, run, said_by_accept, step_is

from testbed.cluster import Cluster

pytestmark = pytest.mark.usefixtures("operator")

ONE_ROUND = [("i1-generate", "generate", 1), ("i1-train", "train", 1), ("i1-evaluate", "evaluate", 1)]
UNMET = "spec.evaluation.gates[0]: win: value 0.480 (95 %: 0.440 to 0.520), asked: at least 0.55; nothing was published"


def test_a_gate_that_is_not_passed_fails_the_run_with_the_figures_and_one_attempt(
    cluster: Cluster, namespace: str
) -> None:
    gates = [{"check": "win", "figure": "value", "atLeast": 0.55}]
    accepted = step_is("accept", message=said_by_accept([*ONE_ROUND, ("publish", "publish", 1)]))
    refused = step_is("publish", exit_code=64, message={"error": UNMET, "reason": "GateNotPassed"})
    made = Run(cluster, namespace, run("gated", accepted, refused, evaluation={"gates": gates}))
    failed = made.until("Failed", "True", "GateNotPassed")
    assert UNMET in failed["message"]
    assert "retry" not in failed["message"]
    assert (made.step("publish")["state"], made.step("publish")["attempts"]) == ("Failed", 1)
