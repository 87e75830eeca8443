"""The rendered manifests on a real apiserver: it takes each, and a namespace that enforces `restricted` takes every pod."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dry_runs import dry_run
from effective_runs import ATTEMPTS, COLLECT, GENERATE, TRAIN, effective
from kubernetes import client

from selfalign_operator.render import to_yaml
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from testbed.cluster import Cluster
from testbed.scripts import INDEX_LABEL, Rule, script, script_by_label
from testbed.waiting import until

GOLDEN = sorted((Path(__file__).parents[1] / "unit" / "golden").glob("*.yaml"))
WITH_RAYJOBS = [path for path in GOLDEN if "kind: RayJob" in path.read_text()]
KUBERAY_CRDS = os.environ.get("KUBERAY_CRDS")
LEVEL = "pod-security.kubernetes.io"


@pytest.fixture(scope="module")
def platform(cluster: Cluster) -> None:
    """What the golden runs name of a cluster: a priority class and a runtime class."""
    client.SchedulingV1Api(cluster.api).create_priority_class(
        client.V1PriorityClass(metadata=client.V1ObjectMeta(name="research"), value=1000)
    )
    client.NodeV1Api(cluster.api).create_runtime_class(
        client.V1RuntimeClass(metadata=client.V1ObjectMeta(name="nvidia"), handler="nvidia")
    )


@pytest.fixture
def restricted(cluster: Cluster, platform: None) -> Iterator[str]:
    """A namespace that enforces the restricted standard, and warns of Jobs whose pods would not meet it."""
    name = f"r-{uuid.uuid4().hex[:10]}"
    labels = {f"{LEVEL}/enforce": "restricted", f"{LEVEL}/warn": "restricted"}
    cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=labels)))
    for account in ("default", "training"):
        body = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=account))
        try:
            cluster.core.create_namespaced_service_account(name, body)
        except client.ApiException as error:
            if error.status != 409:  # the controller was faster with `default`
                raise
    yield name
    cluster.core.delete_namespace(name)
    cluster.lose_pods(name)


def golden(path: Path, namespace: str) -> list[Manifest]:
    """The manifests of a golden file, in this namespace."""
    manifests: list[Manifest] = list(yaml.safe_load_all(path.read_text()))
    for manifest in manifests:
        manifest["metadata"]["namespace"] = namespace
    return manifests


def templates(manifest: Manifest) -> list[Manifest]:
    if manifest["kind"] == "Job":
        return [manifest["spec"]["template"]]
    if manifest["kind"] != "RayJob":
        return []
    cluster = manifest["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ()))]


def as_pod(template: Manifest, namespace: str) -> Manifest:
    metadata = template["metadata"] | {"name": f"p-{uuid.uuid4().hex[:8]}", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_apiserver_takes_every_object_without_a_warning(cluster: Cluster, restricted: str, path: Path) -> None:
    ours = [manifest for manifest in golden(path, restricted) if manifest["kind"] != "RayJob"]
    assert dry_run(cluster, to_yaml(ours)) == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_restricted_namespace_takes_every_pod(cluster: Cluster, restricted: str, path: Path) -> None:
    manifests = golden(path, restricted)
    pods = [as_pod(template, restricted) for manifest in manifests for template in templates(manifest)]
    assert len(pods) >= 3
    assert dry_run(cluster, to_yaml(pods)) == []


@pytest.mark.skipif(KUBERAY_CRDS is None, reason="KUBERAY_CRDS names no folder with KubeRay's CRDs: no RayJob is tried")
@pytest.mark.parametrize("path", WITH_RAYJOBS, ids=lambda path: path.stem)
def test_kuberays_schema_takes_every_rayjob(cluster: Cluster, restricted: str, path: Path) -> None:
    assert KUBERAY_CRDS is not None
    file = next(Path(KUBERAY_CRDS).glob("*rayjobs.yaml"))
    cluster.kubectl("apply", "--server-side", "-f", str(file))
    until(lambda: "rayjobs" in cluster.kubectl("api-resources", "--api-group=ray.io", "--cached=false"), "RayJob")
    rayjobs = [manifest for manifest in golden(path, restricted) if manifest["kind"] == "RayJob"]
    assert rayjobs
    assert dry_run(cluster, to_yaml(rayjobs)) == []


# --- on the real Job controller ---------------------------------------------------------------------------------------


def create(cluster: Cluster, namespace: str, workload: Manifest) -> str:
    """The Job for good; without its owner, for the garbage collector would miss it."""
    metadata = workload["metadata"] | {"namespace": namespace, "ownerReferences": []}
    cluster.batch.create_namespaced_job(namespace, workload | {"metadata": metadata})
    name: str = metadata["name"]
    return name


def played(template: dict[str, str]) -> dict[str, Any]:
    """A podTemplate whose pods do this on the testbed."""
    return {"metadata": {"annotations": template}}


def in_a_bucket(compute: dict[str, Any]) -> dict[str, Any]:
    """The small run without a claim, which no controller here would bind at once."""
    return {"model": {"url": "hf://org/m"}, "storage": {"url": "s3://ml/runs"}, "compute": compute}


def condition(cluster: Cluster, namespace: str, name: str, kind: str) -> client.V1JobCondition:
    def look() -> client.V1JobCondition | None:
        conditions = cluster.batch.read_namespaced_job(name, namespace).status.conditions or []
        return next((each for each in conditions if each.type == kind and each.status == "True"), None)

    return until(look, f"condition {kind} of Job {name}")


def test_a_generation_gang_is_complete_when_its_index_0_is(cluster: Cluster, restricted: str) -> None:
    helper_hangs = script_by_label(Rule(script()), Rule(script(trouble="Hang"), where={INDEX_LABEL: "1"}))
    compute = {"generation": {"replicas": 2}, "podTemplate": played(helper_hangs)}
    name = create(cluster, restricted, attempt_workload(effective(in_a_bucket(compute)), GENERATE))
    assert condition(cluster, restricted, name, "Complete").reason == "SuccessPolicy"


def test_a_training_gang_fails_as_a_whole_with_one_of_its_pods(cluster: Cluster, restricted: str) -> None:
    one_fails = script_by_label(Rule(script(exit_code=1)), Rule(script(trouble="Hang"), where={INDEX_LABEL: "0"}))
    compute = {"training": {"nodes": 2}, "podTemplate": played(one_fails)}
    name = create(cluster, restricted, attempt_workload(effective(in_a_bucket(compute)), TRAIN))
    assert condition(cluster, restricted, name, "Failed").reason == "BackoffLimitExceeded"
    assert not cluster.batch.read_namespaced_job(name, restricted).status.active


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: f"{attempt.step}{'-c' if attempt.collect else ''}")
def test_a_wrong_configuration_is_not_tried_again(cluster: Cluster, restricted: str, attempt: Any) -> None:
    compute = {"generation": {"replicas": 2}, "training": {"nodes": 2}, "podTemplate": played(script(exit_code=64))}
    name = create(cluster, restricted, attempt_workload(effective(in_a_bucket(compute)), attempt))
    assert condition(cluster, restricted, name, "Failed").reason == "PodFailurePolicy"


def test_a_disrupted_collect_is_made_again_by_the_job_itself(cluster: Cluster, restricted: str) -> None:
    compute = {"podTemplate": played(script(trouble="Evicted"))}
    name = create(cluster, restricted, attempt_workload(effective(in_a_bucket(compute)), COLLECT))

    def pods() -> set[str]:
        found = cluster.core.list_namespaced_pod(restricted, label_selector=f"job-name={name}").items
        return {pod.metadata.uid for pod in found}

    until(lambda: len(pods()) > 1, "second pod of the Job")
    status = cluster.batch.read_namespaced_job(name, restricted).status
    assert not [each for each in status.conditions or [] if each.type == "Failed"]


def test_a_queued_job_waits_for_kueue(cluster: Cluster, restricted: str) -> None:
    name = create(cluster, restricted, attempt_workload(effective(in_a_bucket({"queueName": "team-a"})), GENERATE))
    assert condition(cluster, restricted, name, "Suspended").reason == "JobSuspended"
    assert cluster.core.list_namespaced_pod(restricted).items == []
