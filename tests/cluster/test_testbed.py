"""The testbed does what its scripts say, as real Jobs on a real control plane see it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes import client

from testbed.administrator import api_client
from testbed.cluster import Cluster
from testbed.scripts import INDEX_LABEL, Rule, script, script_by_label
from testbed.waiting import until


def create_job(
    cluster: Cluster, namespace: str, annotations: dict[str, str], *, gpus: int = 1, size: int = 1, **spec: Any
) -> None:
    """An Indexed Job `job` as the operator makes them."""
    container = {
        "name": "step",
        "image": "example.invalid/step",
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    template = {
        "metadata": {"annotations": annotations, "labels": {"attempt": "3"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    gang = {"completionMode": "Indexed", "completions": size, "parallelism": size, "template": template}
    job = {"metadata": {"name": "job"}, "spec": {"backoffLimit": 0, **gang, **spec}}
    cluster.batch.create_namespaced_job(namespace, job)


def pods(cluster: Cluster, namespace: str) -> list[client.V1Pod]:
    found: list[client.V1Pod] = cluster.core.list_namespaced_pod(namespace).items
    return sorted(found, key=lambda pod: pod.metadata.name)


def only_pod(cluster: Cluster, namespace: str, phase: str) -> client.V1Pod:
    def look() -> client.V1Pod | None:
        return next((pod for pod in pods(cluster, namespace) if pod.status.phase == phase), None)

    return until(look, f"{phase} pod")


def job_condition(cluster: Cluster, namespace: str, kind: str) -> client.V1JobCondition:
    def look() -> client.V1JobCondition | None:
        conditions = cluster.batch.read_namespaced_job("job", namespace).status.conditions or []
        return next((each for each in conditions if each.type == kind and each.status == "True"), None)

    return until(look, f"condition {kind} of the Job")


def ended(pod: client.V1Pod) -> client.V1ContainerStateTerminated:
    return pod.status.container_statuses[0].state.terminated


def test_a_job_goes_to_complete_with_the_message_that_its_annotation_asked_for(
    cluster: Cluster, namespace: str
) -> None:
    summary = {"step": "i1-train", "result": {"text": 'quotes " and $(attempt) and ü'}}
    hang = Rule(script(trouble="Hang"), where={INDEX_LABEL: "1"})
    annotations = script_by_label(Rule(script(message=summary)), hang)
    create_job(cluster, namespace, annotations, size=2, successPolicy={"rules": [{"succeededIndexes": "0"}]})
    job_condition(cluster, namespace, "Complete")
    first = only_pod(cluster, namespace, "Succeeded")
    assert (ended(first).exit_code, ended(first).reason) == (0, "Completed")
    assert json.loads(ended(first).message)["result"] == {"text": 'quotes " and 3 and ü'}
    until(lambda: len(pods(cluster, namespace)) == 1, "end of the other pod")


def test_exit_code_64_fails_the_job_by_its_policy(cluster: Cluster, namespace: str) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "step", "operator": "In", "values": [64]}}
    create_job(cluster, namespace, script(exit_code=64), backoffLimit=6, podFailurePolicy={"rules": [rule]})
    assert job_condition(cluster, namespace, "Failed").reason == "PodFailurePolicy"
    assert ended(only_pod(cluster, namespace, "Failed")).exit_code == 64


@pytest.mark.parametrize("trouble", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_trouble_before_the_start_shows_in_the_container_status(cluster: Cluster, namespace: str, trouble: Any) -> None:
    create_job(cluster, namespace, script(trouble=trouble))

    def waits() -> client.V1ContainerStateWaiting | None:
        statuses = [each for pod in pods(cluster, namespace) for each in pod.status.container_statuses or []]
        return statuses[0].state.waiting if statuses else None

    assert until(waits, "waiting container").reason == trouble


def test_a_volume_that_cannot_be_mounted_shows_in_an_event_only(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="FailedMount"))
    until(
        lambda: cluster.core.list_namespaced_event(namespace, field_selector="reason=FailedMount").items,
        "event FailedMount",
    )
    (pod,) = pods(cluster, namespace)
    assert pod.status.phase == "Pending"


def test_out_of_memory_is_exit_137_with_its_reason(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="OOMKilled"))
    state = ended(only_pod(cluster, namespace, "Failed"))
    assert (state.exit_code, state.reason) == (137, "OOMKilled")


def test_an_eviction_is_a_disruption_that_a_job_may_ignore(cluster: Cluster, namespace: str) -> None:
    ignored = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    create_job(cluster, namespace, script(trouble="Evicted"), podFailurePolicy={"rules": [ignored]})
    pod = only_pod(cluster, namespace, "Failed")
    assert pod.status.reason == "Evicted"
    until(lambda: len(pods(cluster, namespace)) > 1, "another pod in its place")


def test_a_hanging_pod_ends_when_its_job_is_deleted(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="Hang"))
    only_pod(cluster, namespace, "Running")
    cluster.batch.delete_namespaced_job("job", namespace, propagation_policy="Foreground")
    until(lambda: not pods(cluster, namespace), "end of the pod")


def test_a_hanging_pod_ends_as_the_test_says(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="Hang"))
    pod = only_pod(cluster, namespace, "Running")
    assert pod.status.pod_ip
    cluster.finish_pod(namespace, pod.metadata.name, exit_code=3, message="told to")
    state = ended(only_pod(cluster, namespace, "Failed"))
    assert (state.exit_code, state.message) == (3, "told to")
    assert state.started_at <= state.finished_at


def test_a_stuck_pod_stays_after_its_deletion(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="StuckTerminating"))
    stuck = only_pod(cluster, namespace, "Running")
    cluster.core.delete_namespaced_pod(stuck.metadata.name, namespace, grace_period_seconds=1)
    # A pod that was deleted after it and is gone says that KWOK has had its turn.
    cluster.core.create_namespaced_pod(
        namespace,
        {
            "metadata": {"name": "other", "annotations": script(trouble="Hang")},
            "spec": {"containers": [{"name": "step", "image": "example.invalid/step"}]},
        },
    )
    until(lambda: cluster.core.read_namespaced_pod("other", namespace).status.phase == "Running", "Running pod")
    cluster.core.delete_namespaced_pod("other", namespace)
    until(lambda: "other" not in [pod.metadata.name for pod in pods(cluster, namespace)], "end of the other pod")
    (still,) = pods(cluster, namespace)
    assert still.metadata.deletion_timestamp
    assert still.status.phase == "Running"


def test_a_pod_may_run_without_getting_ready(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, script(trouble="Hang", ready=False))
    status = only_pod(cluster, namespace, "Running").status
    assert {each.type: each.status for each in status.conditions}["Ready"] == "False"
    assert not status.container_statuses[0].ready


def test_a_job_that_asks_for_99_gpus_is_unschedulable(cluster: Cluster, namespace: str) -> None:
    create_job(cluster, namespace, {}, gpus=99)

    def refusal() -> client.V1PodCondition | None:
        conditions = [each for pod in pods(cluster, namespace) for each in pod.status.conditions or []]
        return next((each for each in conditions if each.reason == "Unschedulable"), None)

    assert "Insufficient nvidia.com/gpu" in until(refusal, "Unschedulable pod").message


def test_rbac_holds_for_any_user(cluster: Cluster, namespace: str) -> None:
    nobody = client.CoreV1Api(api_client(cluster.kubeconfig_for("nobody", ["nothing"])))
    with pytest.raises(client.ApiException) as refused:
        nobody.list_namespaced_pod(namespace)
    assert refused.value.status == 403


def test_rbac_holds_for_a_service_account(cluster: Cluster, namespace: str) -> None:
    cluster.core.create_namespaced_service_account(namespace, {"metadata": {"name": "operator"}})
    path = cluster.kubeconfig_for_service_account(namespace, "operator")
    with pytest.raises(client.ApiException, match=f"system:serviceaccount:{namespace}:operator"):
        client.CoreV1Api(api_client(path)).list_namespaced_pod(namespace)


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_a_killed_program_comes_back_with_what_it_kept(cluster: Cluster, namespace: str, program: str) -> None:
    cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "kept"}, "data": {"a": "b"}})
    cluster.control_plane.restart(program)

    def answers() -> client.V1ConfigMap | None:
        try:
            return cluster.core.read_namespaced_config_map("kept", namespace)
        except client.ApiException:  # the apiserver looks for its etcd
            return None

    assert until(answers, "answer").data == {"a": "b"}
    create_job(cluster, namespace, script(exit_code=0))
    job_condition(cluster, namespace, "Complete")
