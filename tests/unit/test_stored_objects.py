"""What earlier versions of the operator stored, as tests/stored has it from a real apiserver: this one reads all of it, goes on
with it, and would write it back with nothing lost.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_kube import FakeKube

from selfalign_api.operator_config import Images, OperatorConfig
from selfalign_api.status import read_status
from selfalign_operator.decision import Decision
from selfalign_operator.effective import Attempt, Frozen
from selfalign_operator.frozen import frozen_of
from selfalign_operator.lease import KubeLease
from selfalign_operator.names import workload_name
from selfalign_operator.read import moment, run_view, workload_view
from selfalign_operator.reconcile import decide
from selfalign_operator.rendering import Manifests
from selfalign_operator.views import Observed, WorkloadView
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map

STORED = Path(__file__).parents[1] / "stored"
VERSIONS = sorted(folder.name for folder in STORED.iterdir() if folder.is_dir())
TODAY = OperatorConfig(images=Images(generate="of-today", train="of-today"))
Json = dict[str, Any]


def stored(version: str, kind: str) -> list[Json]:
    found: list[Json] = json.loads((STORED / version / f"{kind}.json").read_text(encoding="utf-8"))
    return found


RUNS = [(version, run) for version in VERSIONS for run in stored(version, "selfalignmentruns")]
MAPS = [(version, each) for version in VERSIONS for each in stored(version, "configmaps")]
JOBS = [(version, each) for version in VERSIONS for each in stored(version, "jobs")]


def named(pair: Any) -> str:
    return str(pair["metadata"]["name"]) if isinstance(pair, dict) else str(pair)


def frozen_for(version: str, run: Json) -> Frozen:
    """What its ConfigMap has, which its status names."""
    name = run["status"]["plan"]["configMapName"]
    (found,) = (each for each in stored(version, "configmaps") if each["metadata"]["name"] == name)
    frozen = frozen_of(found)
    assert isinstance(frozen, Frozen), frozen
    return frozen


def workloads_of(version: str, run: Json) -> tuple[WorkloadView, ...]:
    views = (workload_view(job) for job in stored(version, "jobs"))
    return tuple(view for view in views if view is not None and view.owner_uid == run["metadata"]["uid"])


def decided(version: str, run: Json) -> Decision:
    """By today's operator, half a minute after the last word of the status."""
    view = run_view(run)
    assert view is not None
    last = max(moment(each["lastTransitionTime"]) or view.created for each in run["status"]["conditions"])
    frozen = None if view.status.has_ended else frozen_for(version, run)
    seen = Observed(view, last + timedelta(seconds=30), workloads=workloads_of(version, run), frozen=frozen)
    return decide(seen, TODAY, Manifests())


def test_there_is_a_run_of_every_state() -> None:
    states = {"Complete", "Running", "Suspended", "Failed", "Held"}
    for version in VERSIONS:
        assert {run["status"]["state"] for run in stored(version, "selfalignmentruns")} >= states


@pytest.mark.parametrize(("version", "run"), RUNS, ids=named)
def test_a_status_is_read_whole_and_written_back_as_it_was(version: str, run: Json) -> None:
    status, problems = read_status(run["status"])
    assert problems == ()
    assert status.model_dump(mode="json", exclude_none=True) == run["status"]


@pytest.mark.parametrize(("version", "plan"), MAPS, ids=named)
def test_a_plan_is_read_and_made_again_to_the_byte(version: str, plan: Json) -> None:
    frozen = frozen_of(plan)
    assert isinstance(frozen, Frozen), frozen
    (run,) = (
        each
        for each in stored(version, "selfalignmentruns")
        if each["metadata"]["uid"] == plan["metadata"]["labels"]["selfalign.dev/run-uid"]
    )
    view = run_view(run)
    assert view is not None
    effective = Manifests().effective(view, TODAY, frozen)
    again = config_map(effective)
    assert (again["metadata"]["name"], again["data"]) == (plan["metadata"]["name"], plan["data"])
    job = attempt_workload(effective, Attempt("i1-train", "train", 1, 9))
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "example.invalid/train:1"


@pytest.mark.parametrize(("version", "job"), JOBS, ids=named)
def test_a_job_is_read_as_the_attempt_that_it_is(version: str, job: Json) -> None:
    view = workload_view(job)
    assert view is not None
    (run,) = (each for each in stored(version, "selfalignmentruns") if each["metadata"]["uid"] == view.owner_uid)
    name, uid = run["metadata"]["name"], run["metadata"]["uid"]
    assert view.name == workload_name(name, uid, view.step, view.attempt)
    assert (view.keeps_policies, view.progress_port) == (True, 8080)


@pytest.mark.parametrize(("version", "run"), RUNS, ids=named)
def test_a_run_goes_on_as_it_was_nothing_made_twice_and_nothing_deleted(version: str, run: Json) -> None:
    decision = decided(version, run)
    assert (decision.creations, decision.deletions, decision.dry_runs, decision.delete_run) == ((), (), (), False)
    before = read_status(run["status"])[0]
    assert decision.status.state == before.state
    assert [(step.name, step.state, step.attempts) for step in decision.status.steps] == (
        [(step.name, step.state, step.attempts) for step in before.steps]
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lease_says_who_holds_it_and_for_how_long(version: str) -> None:
    (lease,) = stored(version, "lease")
    kube: Any = FakeKube()
    kube.has(lease)
    there = KubeLease(kube, lease["metadata"]["namespace"], lease["metadata"]["name"])
    record = asyncio.run(there.read())
    assert record is not None
    assert (record.holder, record.duration) == (lease["spec"]["holderIdentity"], lease["spec"]["leaseDurationSeconds"])
