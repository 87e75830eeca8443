"""Applying a decision: the order of calls, whose a child is, what is written and what is left."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from fake_kube import FakeKube, job_object, run_object

from selfalign_api.status import Status, StepStatus, WorkloadRef, read_status
from selfalign_operator.apply import QUIET_SECONDS, Applied, Applier
from selfalign_operator.cache import Cache
from selfalign_operator.decision import Decision, Deletion, RunEvent
from selfalign_operator.kube.client import ApiError, NotLeader
from selfalign_operator.logs import json_formatter
from selfalign_operator.views import RunView

PENDING = WorkloadRef(api_version="batch/v1", kind="Job", name="job", uid="pending")
RUNNING = Status(state="Running", steps=(StepStatus(name="i1-train", kind="train", iteration=1, workload=PENDING),))


class Scene:
    def __init__(self, **status: Any) -> None:
        self.kube = FakeKube()
        self.kube.has(run_object(**status))
        self.cache = Cache()
        self.clock = 1000.0
        kube: Any = self.kube
        self.applier = Applier(kube, self.cache, "me", clock=lambda: self.clock)

    @property
    def run(self) -> RunView:
        self.cache.put(self.kube.objects["selfalignmentruns", "ns", "run"])
        run = self.cache.run(("ns", "run"))
        assert run is not None
        return run

    def apply(self, status: Status = RUNNING, run: RunView | None = None, **parts: Any) -> Applied:
        return asyncio.run(self.applier.apply(run or self.run, Decision(status=status, **parts)))

    def status(self) -> Status:
        return read_status(self.kube.objects["selfalignmentruns", "ns", "run"]["status"])[0]


def child(kind: str = "Service", name: str = "svc") -> dict[str, Any]:
    raw = job_object(name) | {"apiVersion": "v1", "kind": kind}
    del raw["metadata"]["uid"]
    return raw


def job() -> dict[str, Any]:
    raw = job_object()
    del raw["metadata"]["uid"]
    return raw


def test_creations_then_status_then_deletions_then_events() -> None:
    scene = Scene()
    scene.kube.has(job_object("old"))
    scene.apply(
        dry_runs=(job(),),
        creations=(child(), job()),
        workload_of="i1-train",
        deletions=(Deletion("batch/v1", "Job", "old", "uid-old"),),
        events=(RunEvent("Normal", "StepStarted", "i1-train starts"),),
    )
    assert [call[:2] for call in scene.kube.writes] == [
        ("dry-run", "jobs"),
        ("create", "services"),
        ("create", "jobs"),
        ("apply", "selfalignmentruns"),
        ("delete", "jobs"),
        ("create", "events"),
    ]


def test_the_status_names_the_workload_by_the_uid_that_it_got() -> None:
    scene = Scene()
    scene.apply(creations=(job(),), workload_of="i1-train")
    assert scene.status().steps[0].workload == PENDING.model_copy(update={"uid": "uid-job"})
    assert [view.name for view in scene.cache.workloads("uid-run")] == ["job"]  # before any watch says so


def test_a_child_that_an_earlier_try_made_is_taken() -> None:
    scene = Scene()
    scene.kube.has(job_object())
    applied = scene.apply(dry_runs=(job(),), creations=(job(),), workload_of="i1-train")
    assert applied.refusals == ()
    assert scene.status().steps[0].workload == PENDING.model_copy(update={"uid": "uid-job"})


def test_a_foreign_object_of_that_name_is_a_refusal_and_nothing_else_is_done() -> None:
    scene = Scene()
    scene.kube.has(job_object(owner="somebody"))
    applied = scene.apply(creations=(job(), child()), workload_of="i1-train")
    assert [refusal.code for refusal in applied.refusals] == [409]
    assert [call[0] for call in scene.kube.writes] == ["create"]


def test_a_secret_is_never_read() -> None:
    scene = Scene()
    scene.kube.has(child("Secret", "ray"))
    assert scene.apply(creations=(child("Secret", "ray"),)).refusals == ()
    assert ("get", "secrets", "ray") not in scene.kube.calls


def test_what_is_missing_of_a_runs_objects_is_made_again_and_the_rest_is_only_looked_for() -> None:
    scene = Scene()
    for kind in ("Service", "Secret"):
        scene.kube.has(child(kind, kind.lower()))
    objects = (child("ConfigMap", "plan"), child("Service", "service"), child("Secret", "secret"))
    assert scene.apply(ensured=objects, creations=(job(),), workload_of="i1-train").refusals == ()
    made = [call[1] for call in scene.kube.writes if call[0] == "create"]
    assert made == ["configmaps", "secrets", "jobs"]


def test_a_foreign_object_under_the_name_of_one_of_ours_is_told_at_any_attempt() -> None:
    scene = Scene()
    foreign = child("ConfigMap", "plan")
    foreign["metadata"]["ownerReferences"] = []
    scene.kube.has(foreign)
    assert [each.code for each in scene.apply(ensured=(child("ConfigMap", "plan"),)).refusals] == [409]


@pytest.mark.parametrize("code", [403, 404, 422])
@pytest.mark.parametrize("verb", ["dry-run", "create"])
def test_what_the_apiserver_does_not_take_is_told(code: int, verb: str) -> None:
    scene = Scene()

    def refuse(called: str, manifest: dict[str, Any]) -> None:
        if called == verb:
            raise ApiError(code, "Forbidden", "exceeded quota")

    scene.kube.refuse = refuse
    applied = scene.apply(dry_runs=(job(),), creations=(job(),))
    assert [(refusal.code, refusal.message) for refusal in applied.refusals] == [(code, "exceeded quota")]
    assert ("apply", "selfalignmentruns", "run") not in scene.kube.calls


@pytest.mark.parametrize("code", [0, 429, 500, 409])
def test_what_may_succeed_later_is_raised(code: int) -> None:
    scene = Scene()

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        raise ApiError(code, "Conflict" if code == 409 else "", "later")

    scene.kube.refuse = refuse
    with pytest.raises(ApiError):
        scene.apply(creations=(job(),))


def test_a_status_that_did_not_change_is_not_written() -> None:
    scene = Scene()
    scene.apply()
    writes = len(scene.kube.writes)
    assert scene.apply(status=scene.status()) == Applied()
    assert len(scene.kube.writes) == writes


def test_a_status_computed_from_an_old_object_is_refused() -> None:
    scene = Scene()
    old = scene.run
    scene.apply()
    with pytest.raises(ApiError) as refused:
        scene.apply(status=Status(state="Failed"), run=old)
    assert refused.value.code == 409


def test_a_status_whose_answer_was_lost_counts_as_written_and_the_run_is_looked_at_again() -> None:
    scene = Scene()
    old = scene.run
    scene.apply(status=RUNNING)
    applied = scene.apply(status=RUNNING, run=old, events=(RunEvent("Normal", "StepStarted", "it starts"),))
    assert (applied.status, applied.wait_seconds) == (RUNNING, 0.0)
    assert ("create", "events") in [call[:2] for call in scene.kube.writes]


def test_a_spec_that_todays_schema_would_not_take_gets_its_status_by_put() -> None:
    scene = Scene()

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        if verb == "apply":
            raise ApiError(500, "", "failed to create typed live object (ns/run; …): .spec.seed: expected numeric")

    scene.kube.refuse = refuse
    scene.apply(status=RUNNING)
    assert scene.status() == RUNNING


def test_mere_progress_is_written_once_in_half_a_minute() -> None:
    scene = Scene()
    scene.apply()
    written = scene.status()
    scene.clock += 10
    applied = scene.apply(status=written.model_copy(update={"progress": "1%"}), urgent=False)
    assert (applied.status, applied.wait_seconds) == (None, QUIET_SECONDS - 10)
    scene.clock += QUIET_SECONDS - 10
    applied = scene.apply(status=written.model_copy(update={"progress": "2%"}), urgent=False)
    assert applied.status is not None
    assert scene.status().progress == "2%"


def test_a_change_that_matters_does_not_wait() -> None:
    scene = Scene()
    scene.apply()
    scene.apply(status=scene.status().model_copy(update={"state": "Failed"}))
    assert scene.status().state == "Failed"


def test_entries_that_somebody_else_added_go() -> None:
    scene = Scene()
    scene.kube.foreign_status = {"results": [{"name": "bogus", "value": "1"}]}
    scene.apply()
    assert scene.status().results == ()
    assert [call[0] for call in scene.kube.writes] == ["apply", "replace"]


def test_a_status_that_was_not_readable_is_written_again() -> None:
    scene = Scene(state="Nonsense")
    scene.apply(status=scene.run.status)
    assert [call[0] for call in scene.kube.writes] == ["apply"]


def test_our_own_write_is_no_news_afterwards() -> None:
    scene = Scene()
    scene.apply()
    assert scene.cache.put(scene.kube.objects["selfalignmentruns", "ns", "run"]) is None


def test_an_event_that_was_told_is_not_told_twice() -> None:
    scene = Scene()
    run = scene.run
    event = RunEvent("Warning", "Unschedulable", "ü" * 2000)
    scene.apply(status=run.status, run=run, events=(event, event))
    told = [raw for (plural, _, _), raw in scene.kube.objects.items() if plural == "events"]
    assert len(told) == 1
    assert len(told[0]["note"].encode()) <= 1024
    assert told[0]["regarding"]["uid"] == "uid-run"


def test_events_are_named_in_the_order_of_what_they_tell() -> None:
    """`kubectl describe` sorts them by whole seconds, and lists what is equal by name."""
    scene = Scene()
    told = []
    for version in ("9", "10", "100"):
        run = replace(scene.run, resource_version=version)
        events = tuple(RunEvent("Normal", "StepStarted", f"{version} {number}") for number in range(12))
        scene.apply(status=run.status, run=run, events=events)
        told += [event.message for event in events]
    found = {name: raw["note"] for (plural, _, name), raw in scene.kube.objects.items() if plural == "events"}
    assert [found[name] for name in sorted(found)] == told


def test_a_line_of_the_log_says_run_step_and_attempt_for_a_log_store(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    with caplog.at_level(logging.INFO, "selfalign_operator"):
        scene.apply(events=(RunEvent("Normal", "StepStarted", "i1-train starts"),))
    (line,) = [json.loads(json_formatter().format(record)) for record in caplog.records]
    assert line.items() >= {"namespace": "ns", "run": "run", "step": "i1-train", "attempt": 0}.items()
    assert (line["reason"], line["level"]) == ("StepStarted", "INFO")


def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    scene = Scene()

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        if manifest.get("kind") == "Event":
            raise ApiError(403, "Forbidden", "the namespace is being deleted")

    scene.kube.refuse = refuse
    assert scene.apply(events=(RunEvent("Normal", "Completed", "done"),)).status is not None


def test_a_run_whose_time_is_over_is_deleted() -> None:
    scene = Scene()
    scene.apply(delete_run=True)
    assert ("selfalignmentruns", "ns", "run") not in scene.kube.objects


def test_one_that_may_not_write_writes_nothing() -> None:
    scene = Scene()

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        raise NotLeader

    scene.kube.refuse = refuse
    with pytest.raises(NotLeader):
        scene.apply(creations=(job(),))
