"""How an attempt ends whose pods are KubeRay's: their containers are Ray's, so the RayJob says how the program ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from selfalign_operator.reconcile.ending import failure_of, head_lost
from selfalign_operator.views import PodView, WorkloadView

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
RAY_JOB = WorkloadView(
    "RayJob", "r", "u", "o", "i1-generate", 1, False, NOW, False, False, "Failed", reason="AppFailed"
)
HEAD = PodView("r-head", "p0", 0, "Running", NOW, node="n0")
WORKER = PodView("r-worker", "p1", 1, "Running", NOW, node="n1")
LOG = "".join(f"line {number}\n" for number in range(4000)) + "ValueError: no such chat template"


def said(code: int) -> str:
    """As ray.dashboard.modules.job.job_supervisor writes it."""
    return (
        f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n{LOG}"
    )


ENDINGS = [(64, "InvalidConfig", True), (75, "Stopped", False), (1, "StepFailed", False)]


@pytest.mark.parametrize(("code", "reason", "final"), ENDINGS)
def test_the_exit_code_is_the_one_in_the_rayjobs_message(code: int, reason: str, final: bool) -> None:
    ended = replace(HEAD, exit_code=143, exit_reason="Error")  # Ray's, which KubeRay ended
    ending = failure_of(replace(RAY_JOB, message=said(code)), [ended])
    assert (ending.reason, ending.exit_code, ending.final, ending.counted) == (reason, code, final, True)


def test_of_a_long_log_the_end_is_kept() -> None:
    message = failure_of(replace(RAY_JOB, message=said(1)), []).message
    assert message.startswith("RayJob r: Job entrypoint command failed with exit code 1")
    assert message.endswith("no such chat template")
    assert len(message) <= 1024


def test_what_rays_own_containers_exit_with_says_nothing() -> None:
    ending = failure_of(replace(RAY_JOB, message="it ended"), [replace(HEAD, exit_code=64)])
    assert (ending.reason, ending.exit_code, ending.final) == ("StepFailed", None, False)


def test_a_head_without_memory_is_named() -> None:
    ending = failure_of(RAY_JOB, [replace(HEAD, exit_code=137, exit_reason="OOMKilled")])
    assert ending.reason == "OutOfMemory"


def test_a_rayjob_that_kuberay_refuses_is_not_tried_again() -> None:
    refused = replace(RAY_JOB, reason="ValidationFailed", message="set RAY_REDIS_ADDRESS in gcsFaultToleranceOptions")
    ending = failure_of(refused, [])
    assert (ending.reason, ending.final) == ("InvalidConfig", True)
    assert "RAY_REDIS_ADDRESS" in ending.message


SILENT = replace(RAY_JOB, phase="Active", reason="", head_is_silent=True)


@pytest.mark.parametrize(
    ("workload", "pods"),
    [(SILENT, [HEAD, WORKER]), (replace(SILENT, head_is_silent=False), [WORKER])],
    ids=["it is only silent", "its pod was not looked for"],
)
def test_a_head_that_is_there_is_not_lost(workload: WorkloadView, pods: list[PodView]) -> None:
    assert head_lost(workload, pods) is None


@pytest.mark.parametrize(
    ("pods", "reason", "counted"),
    [
        ([WORKER], "StepFailed", True),
        ([], "StepFailed", True),
        ([replace(HEAD, deleted=NOW + timedelta(seconds=30))], "Deleted", False),
        ([replace(HEAD, deleted=NOW, disruption="EvictionByEvictionAPI")], "Disrupted", False),
        ([replace(HEAD, exit_code=137, exit_reason="OOMKilled")], "OutOfMemory", True),
    ],
)
def test_a_head_that_is_gone_ends_the_attempt(pods: list[PodView], reason: str, counted: bool) -> None:
    ending = head_lost(SILENT, pods)
    assert ending is not None
    assert (ending.reason, ending.counted) == (reason, counted)
