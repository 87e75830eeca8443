"""Observing: what is asked for, when, and that nothing is asked for a run that runs as it should."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fake_kube import FakeKube, job_object, run_object

from selfalign_api.status import PlanStatus
from selfalign_operator.cache import Cache
from selfalign_operator.decision import Decision
from selfalign_operator.effective import Frozen
from selfalign_operator.kube.client import ApiError
from selfalign_operator.observe import Observer
from selfalign_operator.views import Observed, ProgressView, RunView

NOW = datetime(2026, 11, 24, 10, 1, 30, tzinfo=UTC)
ACCEPTED = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "lastTransitionTime": "2026-11-24T10:00:00Z",
    "observedGeneration": 1,
}
RUNNING = {"active": 2, "ready": 2, "startTime": "2026-11-24T10:00:00Z"}


class FakeMiddle:
    asks = False  # for the labels of namespaces

    def decide(self, observed: Observed) -> Decision:
        raise AssertionError("nobody decides here")

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        return ("data", "lost")

    def asks_for_labels(self, run: RunView, frozen: Frozen | None) -> bool:
        return self.asks

    def frozen(self, config_map: dict[str, Any]) -> Frozen | str:
        made: Any = SimpleNamespace(config_map_name=config_map["metadata"]["name"])
        return made

    def frozen_of_status(self, plan: PlanStatus) -> Frozen | str:
        made: Any = SimpleNamespace(config_map_name=plan.config_map_name)
        return "is gone" if plan.content is None else made


class Scene:
    def __init__(self, *jobs: dict[str, Any], **status: Any) -> None:
        self.kube = FakeKube()
        self.cache = Cache()
        self.cache.put(run_object(**status))
        for job in jobs:
            self.cache.put(self.kube.has(job))
        self.progress: ProgressView | None = None
        kube: Any = self.kube
        self.middle = FakeMiddle()
        self.observer = Observer(
            kube, self.cache, self.middle, lambda key: self.progress, lambda key: False, lambda: False, lambda: NOW
        )

    def observe(self) -> Observed:
        observed = asyncio.run(self.observer.observe(("ns", "run")))
        assert observed is not None
        return observed

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [call[:2] for call in self.kube.calls]


def step(state: str = "Running", workload: str | None = "job", **fields: Any) -> dict[str, Any]:
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": workload, "uid": f"uid-{workload}"}
    return {
        "name": "i1-train",
        "kind": "train",
        "iteration": 1,
        "state": state,
        "attempts": 1,
        **({"workload": reference} if workload else {}),
        **fields,
    }


def under_way(*jobs: dict[str, Any], **fields: Any) -> Scene:
    return Scene(*jobs, conditions=[ACCEPTED], steps=[step(**fields)])


def pod(name: str = "p", phase: str = "Pending", age: float = 0.0) -> dict[str, Any]:
    created = (NOW - timedelta(seconds=age)).isoformat()
    return {"metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}, "status": {"phase": phase}}


def test_a_run_that_is_gone_is_none() -> None:
    assert asyncio.run(Scene().observer.observe(("ns", "other"))) is None


def test_a_run_that_runs_as_it_should_costs_no_call() -> None:
    scene = under_way(job_object(status=RUNNING))
    observed = scene.observe()
    assert [view.name for view in observed.workloads] == ["job"]
    assert observed.pods == ()
    assert scene.asked == []


def test_a_finished_run_costs_no_call() -> None:
    complete = ACCEPTED | {"type": "Complete"}
    scene = Scene(conditions=[complete], steps=[step("Succeeded")], plan={"configMapName": "plan"})
    scene.observe()
    assert scene.asked == []


@pytest.mark.parametrize(
    "status",
    [
        {"active": 2, "ready": 1},
        {"active": 1, "ready": 2, "terminating": 1},
        {"conditions": [{"type": "Complete", "status": "True"}]},
        {"conditions": [{"type": "FailureTarget", "status": "True"}]},
    ],
    ids=["starts", "loses a pod", "is complete", "has failed"],
)
def test_pods_are_listed_when_they_matter(status: dict[str, Any]) -> None:
    scene = under_way(job_object(status=status))
    scene.kube.listed["pods"] = [pod(phase="Running")]
    assert [view.name for view in scene.observe().pods] == ["p"]
    labels = "selfalign.dev/run-uid=uid-run,selfalign.dev/step=i1-train,selfalign.dev/attempt=1,!selfalign.dev/collect"
    assert scene.kube.queries[0] == ("pods", labels, "")


def test_an_attempt_that_has_just_begun_is_not_asked_for_its_pods() -> None:
    started = (NOW - timedelta(seconds=3)).isoformat()
    scene = under_way(job_object(status={"active": 2, "startTime": started}))
    scene.observe()
    assert scene.asked == []
    failed = under_way(job_object(status={"active": 2, "failed": 1, "startTime": started}))
    failed.observe()
    assert failed.asked == [("list", "pods")]


def test_an_attempt_that_its_controller_has_not_taken_up_is_not_asked_for_its_pods() -> None:
    scene = under_way(job_object(status={}))
    scene.observe()
    assert scene.asked == []


def test_a_workload_that_waits_for_its_queue_has_no_pods_and_kueue_is_asked() -> None:
    scene = under_way(job_object(spec={"suspend": True}))
    assert scene.observe().kueue_says == ""  # there is no Kueue
    assert ("list", "pods") not in scene.asked


def refused(message: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": message}]}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [([], ""), ([{"metadata": {}}], "Kueue has it in line"), ([refused("no quota")], "no quota")],
)
def test_why_kueue_lets_a_workload_wait(found: list[Any], expected: str) -> None:
    scene = under_way(job_object(spec={"suspend": True}))
    version = "kueue.x-k8s.io/v1beta2"
    scene.kube.reads["/apis/kueue.x-k8s.io"] = {"preferredVersion": {"groupVersion": version}}
    scene.kube.reads[f"/apis/{version}/namespaces/ns/workloads"] = {"items": found}
    assert scene.observe().kueue_says == expected


def test_a_workload_that_the_cache_lacks_is_asked_for_before_it_is_lost() -> None:
    scene = under_way()
    scene.kube.has(job_object(status=RUNNING))
    assert [view.name for view in scene.observe().workloads] == ["job"]
    assert scene.asked == [("get", "jobs")]
    assert scene.cache.workloads("uid-run") != ()


def test_a_workload_that_is_nowhere_is_lost() -> None:
    assert under_way().observe().workloads == ()


def test_a_ray_job_in_flight_is_read_although_the_cache_has_it() -> None:
    raw = job_object() | {"kind": "RayJob", "apiVersion": "ray.io/v1"}
    scene = Scene(raw, conditions=[ACCEPTED], steps=[step()])
    scene.cache.put(run_object(version=9, conditions=[ACCEPTED], steps=[ray_step()]))
    scene.kube.has(raw | {"status": {"jobStatus": "SUCCEEDED"}})
    assert scene.observe().workloads[0].phase == "Complete"
    assert scene.asked[0] == ("get", "rayjobs")


def test_the_pods_of_a_ray_job_whose_head_is_silent_are_listed() -> None:
    raw = job_object() | {"kind": "RayJob", "apiVersion": "ray.io/v1"}
    scene = Scene(raw, conditions=[ACCEPTED], steps=[step()])
    scene.cache.put(run_object(version=9, conditions=[ACCEPTED], steps=[ray_step()]))
    whole = {"head": {"podIP": "10.1.1.1"}}
    scene.kube.has(
        raw | {"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterStatus": whole}}
    )
    scene.observe()
    assert ("list", "pods") not in scene.asked
    scene.kube.has(
        raw | {"status": {"jobDeploymentStatus": "Running", "jobStatus": "Failure", "rayClusterStatus": whole}}
    )
    scene.observe()
    assert ("list", "pods") in scene.asked


def ray_step() -> dict[str, Any]:
    found = step()
    found["workload"] |= {"apiVersion": "ray.io/v1", "kind": "RayJob"}
    return found


def test_events_say_why_a_job_gets_no_pods() -> None:
    scene = under_way(job_object(status={"startTime": "2026-11-24T10:00:00Z"}))
    event = {"involvedObject": {"kind": "Job", "name": "job"}, "reason": "FailedCreate", "message": "exceeded quota"}
    scene.kube.listed["events"] = [event | {"lastTimestamp": "2026-11-24T10:00:30Z"}]
    assert [event.reason for event in scene.observe().events] == ["FailedCreate"]
    assert scene.kube.queries[-1] == ("events", "", "involvedObject.uid=uid-job,type=Warning")


@pytest.mark.parametrize(
    "status", [{}, {"startTime": "2026-11-24T10:00:00Z", "active": 2}], ids=["not taken up yet", "has its pods"]
)
def test_a_job_whose_controller_is_only_busy_is_not_asked_for_its_events(status: dict[str, Any]) -> None:
    scene = under_way(job_object(status=status))
    scene.observe()
    assert ("list", "events") not in scene.asked


@pytest.mark.parametrize(("age", "asked"), [(10, []), (16, ["involvedObject.uid=uid-p,type=Warning"])])
def test_events_say_why_a_pod_does_not_run_after_a_quarter_of_a_minute(age: float, asked: list[str]) -> None:
    scene = under_way(job_object(status={"active": 2}))
    scene.kube.listed["pods"] = [pod(age=age), pod("q", "Running")]
    scene.observe()
    assert [fields for plural, _, fields in scene.kube.queries if plural == "events"] == asked


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu"}]},
        {
            "containerStatuses": [
                {"name": "step", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
            ]
        },
        {"initContainerStatuses": [{"name": "x", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
        {"containerStatuses": [{"name": "step", "state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
    ],
)
def test_a_pod_that_says_itself_why_it_does_not_run_is_one_list(status: dict[str, Any]) -> None:
    scene = under_way(job_object(spec={"parallelism": 1}, status={"active": 1}))
    waits = pod(age=600)
    scene.kube.listed["pods"] = [waits | {"status": waits["status"] | status}]
    scene.observe()
    assert scene.asked == [("list", "pods")]


def test_the_events_of_a_large_gang_are_read_of_a_few_pods() -> None:
    scene = under_way(job_object(spec={"parallelism": 40}, status={"active": 40}))
    scene.kube.listed["pods"] = [pod(f"p{number}", age=60) for number in range(40)]
    scene.observe()
    assert sum(plural == "events" for plural, _, _ in scene.kube.queries) == 4


def test_claims_are_looked_up_before_the_first_job_only() -> None:
    scene = Scene()
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "ns"}}
    scene.kube.objects["persistentvolumeclaims", "ns", "data"] = claim
    claims = scene.observe().claims
    assert claims["lost"] is None
    assert claims["data"] is not None
    assert under_way(job_object(status=RUNNING)).observe().claims == {}


def test_the_config_map_is_read_once_and_only_when_the_run_owns_it() -> None:
    scene = Scene(conditions=[ACCEPTED], steps=[step(workload=None)], plan={"configMapName": "plan"})
    owner = {"uid": "uid-run", "controller": True}
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plan", "namespace": "ns"}}
    assert (scene.observe().frozen, scene.observe().not_frozen) == (None, "is gone")
    scene.kube.has(raw)
    assert (scene.observe().frozen, scene.observe().not_frozen) == (None, "is not this run's")
    scene.kube.has(raw | {"metadata": raw["metadata"] | {"ownerReferences": [owner]}})  # type: ignore[operator]
    assert scene.observe().frozen is not None
    calls = [call for call in scene.kube.calls if call[0] == "get"]
    assert scene.observe().frozen is not None
    assert [call for call in scene.kube.calls if call[0] == "get"] == calls


def test_a_config_map_that_is_gone_is_read_from_the_status() -> None:
    plan = {"configMapName": "plan", "content": "of then"}
    scene = Scene(conditions=[ACCEPTED], steps=[step(workload=None)], plan=plan)
    found = scene.observe()
    assert found.frozen is not None
    assert (found.frozen.config_map_name, found.not_frozen) == ("plan", "")


def test_the_pods_of_an_attempt_that_the_status_does_not_know_yet_are_listed() -> None:
    later = job_object("job-2", status={"active": 1})
    later["metadata"]["labels"]["selfalign.dev/attempt"] = "2"
    scene = under_way(later, workload=None)
    scene.observe()
    assert "selfalign.dev/attempt=2" in scene.kube.queries[0][1]


@pytest.mark.parametrize("how", ["ended", "deleted", "led by another"])
def test_what_was_resolved_is_kept_for_runs_under_way_alone(how: str) -> None:
    """A thousand runs a day are 10 MB of it."""
    under_way = {"conditions": [ACCEPTED], "steps": [step(workload=None)], "plan": {"configMapName": "plan"}}
    scene = Scene(**under_way)
    owner = {"controller": True, "uid": "uid-run"}
    plan = {"apiVersion": "v1", "kind": "ConfigMap"}
    scene.kube.has(plan | {"metadata": {"name": "plan", "namespace": "ns", "ownerReferences": [owner]}})
    for _ in range(2):
        scene.observe()
    assert scene.asked.count(("get", "configmaps")) == 1
    match how:
        case "ended":
            scene.cache.put(run_object(version=2, **under_way | {"conditions": [ACCEPTED | {"type": "Complete"}]}))
        case "deleted":
            scene.cache.remove(run_object())
        case _:
            scene.observer.forget()
            assert not scene.observer._frozen
    asyncio.run(scene.observer.observe(("ns", "run")))
    assert bool(scene.observer._frozen) == (how == "led by another")


def test_the_labels_of_a_namespace_are_read_where_they_decide() -> None:
    scene = Scene()
    assert scene.observe().run.namespace_labels is None
    assert ("get", "/api/v1/namespaces/ns") not in scene.asked
    scene.middle.asks = True
    scene.kube.reads["/api/v1/namespaces/ns"] = {"metadata": {"labels": {"team": "ml", "odd": 1}}}
    assert scene.observe().run.namespace_labels == {"team": "ml"}


@pytest.mark.parametrize("code", [403, 404])
def test_labels_that_may_not_be_read_stop_nothing(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.middle.asks = True

    async def read(path: str) -> Any:
        raise ApiError(code, "", path)

    monkeypatch.setattr(scene.kube, "read", read)
    assert scene.observe().run.namespace_labels is None
