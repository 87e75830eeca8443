"""Runs that go by their figures, on a real control plane: a gate that is not passed ends one, a loop that is no better too."""

from __future__ import annotations

import json

import pytest
from runs import STEP, Run, run, said_by_accept, step_is

from selfalign_api.rounds import VALUE
from testbed.cluster import Cluster
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")

ONE_ROUND = [("i1-generate", "generate", 1), ("i1-train", "train", 1), ("i1-evaluate", "evaluate", 1)]
SAID = {"digest": "sha256:1", "attempt": 1}
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


def test_a_loop_that_brings_nothing_better_leaves_the_rest_out_and_publishes(cluster: Cluster, namespace: str) -> None:
    steps = [(f"i{k}-{kind}", kind, k) for k in (1, 2, 3, 4) for kind in ("generate", "train", "evaluate")]
    said = [
        step_is(f"i{k}-evaluate", message=json.dumps(SAID | {"step": f"i{k}-evaluate", "result": {VALUE: value}}))
        for k, value in enumerate((0.6, 0.5), start=1)
    ]
    accepted = step_is("accept", message=said_by_accept([*steps, ("publish", "publish", 4)]))
    evaluation = {"selectBy": "win", "stopAfterWorse": 1}
    made = Run(cluster, namespace, run("early", accepted, *said, iterations=4, evaluation=evaluation))
    complete = made.until("Complete", "True", "AllStepsDone")
    assert complete["message"] == "7 steps are done, 6 were left out as the loop ended early"
    states = {step["name"]: step["state"] for step in made.status["steps"]}
    assert states == {"accept": "Succeeded", "publish": "Succeeded"} | {
        name: "Succeeded" if k <= 2 else "Skipped" for name, _, k in steps
    }
    assert made.status["iteration"] == "2/2"
    assert {job.metadata.labels[STEP] for job in made.jobs()} == {
        name for name, state in states.items() if state == "Succeeded"
    }
    until(lambda: "EndedEarly" in made.events(), "event EndedEarly")
