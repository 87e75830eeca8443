"""Readers: every field from where Kubernetes has it, and nothing raised by an object that is not as it should be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fake_kube import job_object, run_object
from hypothesis import given
from hypothesis import strategies as st

from selfalign_operator.read import claim_view, event_view, pod_view, run_view, workload_view

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from([
        "name", "namespace", "uid", "labels", "annotations", "ownerReferences", "creationTimestamp", "conditions",
        "containerStatuses", "suspend", "parallelism", "active", "ready", "startTime", "involvedObject", "series",
        "accessModes", "rayClusterStatus", "jobStatus", "state", "podIP", "generation", "phase",
    ]),
    JSON, max_size=8,
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kind": JSON | st.just("Job"),
            "metadata": JSON | FIELDS,
            "spec": JSON | FIELDS,
            "status": JSON | FIELDS,
        },
    )
)
def test_no_object_makes_a_reader_raise(raw: dict[str, Any]) -> None:
    for reader in (run_view, workload_view, pod_view, event_view, claim_view):
        reader(raw)  # type: ignore[operator]


def test_a_job_under_way() -> None:
    view = workload_view(
        job_object(status={"active": 2, "ready": 1, "terminating": 1, "startTime": "2026-11-24T10:00:01Z"})
    )
    assert view is not None
    assert (view.phase, view.size, view.active, view.ready, view.terminating) == ("Active", 2, 2, 1, 1)
    assert view.started == datetime(2026, 11, 24, 10, 0, 1, tzinfo=UTC)
    assert (view.step, view.attempt, view.collect, view.owner_uid) == ("i1-train", 1, False, "uid-run")
    assert view.keeps_policies


@pytest.mark.parametrize(
    ("conditions", "phase", "reason"),
    [
        ([{"type": "SuccessCriteriaMet", "status": "True", "reason": "SuccessPolicy"}], "Complete", "SuccessPolicy"),
        ([{"type": "Complete", "status": "True", "reason": "CompletionsReached"}], "Complete", "CompletionsReached"),
        ([{"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy"}], "Failed", "PodFailurePolicy"),
        ([{"type": "Suspended", "status": "True"}, {"type": "Failed", "status": "False"}], "Active", ""),
    ],
)
def test_a_job_ends_by_its_conditions(conditions: list[Any], phase: str, reason: str) -> None:
    view = workload_view(job_object(status={"conditions": conditions}))
    assert view is not None
    assert (view.phase, view.reason) == (phase, reason)


@pytest.mark.parametrize("dropped", ["podFailurePolicy", "successPolicy"])
def test_a_job_without_its_policies_says_so(dropped: str) -> None:
    raw = job_object(spec={"backoffLimitPerIndex": 3, "successPolicy": {}})
    assert workload_view(raw).keeps_policies  # type: ignore[union-attr]
    del raw["spec"][dropped]
    assert not workload_view(raw).keeps_policies  # type: ignore[union-attr]


@pytest.mark.parametrize("attempt", ["", "one", "-1", "1.5", "²", "9" * 30])
def test_a_workload_whose_labels_we_did_not_write_is_skipped(attempt: str) -> None:
    raw = job_object()
    raw["metadata"]["labels"]["selfalign.dev/attempt"] = attempt
    assert workload_view(raw) is None


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({}, "Active"),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Active"),
        ({"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}, "Complete"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "Complete"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "FAILED"}, "Failed"),
        ({"jobDeploymentStatus": "Failed", "jobStatus": ""}, "Failed"),
        ({"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed"}, "Failed"),
    ],
)
def test_a_ray_job_ends_by_either_of_its_enums(status: dict[str, Any], phase: str) -> None:
    view = workload_view(job_object(status=status) | {"kind": "RayJob"})
    assert view is not None
    assert view.phase == phase


HEAD = {"rayClusterStatus": {"head": {"podIP": "10.1.1.1"}}}


@pytest.mark.parametrize(
    ("status", "silent"),
    [
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"} | HEAD, False),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, True),
        ({"jobDeploymentStatus": "Running", "jobStatusCheckFailureStartTime": "2026-11-24T10:00:00Z"} | HEAD, True),
        ({"jobDeploymentStatus": "Running", "jobStatus": "Failure"} | HEAD, True),  # an answer of the apiserver's proxy
        ({"jobDeploymentStatus": "Initializing"}, False),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, False),
    ],
)
def test_a_ray_job_says_whether_kuberay_hears_of_its_head(status: dict[str, Any], silent: bool) -> None:
    view = workload_view(job_object(status=status) | {"kind": "RayJob"})
    assert view is not None
    assert view.head_is_silent == silent


@pytest.mark.parametrize(("node", "index"), [("head", 0), ("worker", 1)])
def test_of_rays_pods_the_head_is_index_0(node: str, index: int) -> None:
    view = pod_view(pod(metadata={"labels": {"ray.io/node-type": node}}))
    assert view is not None
    assert view.index == index


def pod(**parts: Any) -> dict[str, Any]:
    metadata = {"name": "p", "uid": "u", "creationTimestamp": "2026-11-24T10:00:00Z"} | parts.get("metadata", {})
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": parts.get("status", {})}


def test_a_pod_that_ended_gives_code_reason_and_message_of_its_step() -> None:
    ended = {"exitCode": 64, "reason": "Error", "message": '{"error": "x"}'}
    statuses = [
        {"name": "sidecar", "state": {"terminated": {"exitCode": 0}}},
        {"name": "step", "state": {"terminated": ended}},
    ]
    labels = {"batch.kubernetes.io/job-completion-index": "1"}
    view = pod_view(pod(metadata={"labels": labels}, status={"phase": "Failed", "containerStatuses": statuses}))
    assert view is not None
    assert (view.exit_code, view.exit_reason, view.termination_message) == (64, "Error", '{"error": "x"}')
    assert (view.index, view.node, view.phase) == (1, "n1", "Failed")


def test_a_pod_that_waits_says_what_for() -> None:
    waits = {"name": "step", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    view = pod_view(pod(status={"containerStatuses": [waits]}))
    assert view is not None
    assert (view.waiting_reason, view.waiting_message) == ("ImagePullBackOff", "no such image")


def test_a_pod_that_only_starts_waits_for_nothing() -> None:
    waits = {"name": "step", "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert pod_view(pod(status={"containerStatuses": [waits]})).waiting_reason == ""  # type: ignore[union-attr]


def test_conditions_of_a_pod() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "False", "message": "0/2 nodes: Insufficient nvidia.com/gpu"},
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"},
    ]
    view = pod_view(pod(status={"conditions": conditions}))
    assert view is not None
    assert view.scheduled_message == "0/2 nodes: Insufficient nvidia.com/gpu"
    assert (view.disruption, view.ready) == ("PreemptionByScheduler", False)


def test_an_event_of_either_api() -> None:
    old = {"reason": "FailedCreate", "message": "m", "lastTimestamp": "2026-11-24T10:00:05Z", "eventTime": None}
    new = {"reason": "FailedCreate", "eventTime": "2026-11-24T10:00:06.000001Z", "lastTimestamp": None}
    about = {"kind": "Job", "name": "j"}
    first, second = event_view(old | {"involvedObject": about}), event_view(new | {"involvedObject": about})
    assert first is not None
    assert second is not None
    assert (first.about, first.last_seen.second, second.last_seen.second) == ("Job/j", 5, 6)


def test_a_claim_and_its_modes() -> None:
    view = claim_view({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOncePod"]}})
    assert view is not None
    assert view.access_modes == ("ReadWriteOncePod",)


def test_a_status_of_another_hand_is_read_as_far_as_it_goes() -> None:
    view = run_view(run_object(state="Nonsense", iteration="1/2"))
    assert view is not None
    assert view.status_problems
    assert view.status.iteration == "1/2"
