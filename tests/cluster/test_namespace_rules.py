"""What namespaces ask of every pod: limits, labels, users of their own. A run as people write it meets them."""

from __future__ import annotations

import json

import pytest
from kubernetes import client
from runs import Run, run, step_is

from selfalign_api.merge import merge
from testbed.cluster import Cluster
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")


def test_a_quota_on_limits_and_a_small_default_stop_no_run(cluster: Cluster, namespace: str) -> None:
    hard = {"limits.cpu": "64", "limits.memory": "256Gi", "requests.cpu": "8", "requests.memory": "32Gi"}
    quota = client.V1ResourceQuota(
        metadata=client.V1ObjectMeta(name="limits"), spec=client.V1ResourceQuotaSpec(hard=hard)
    )
    cluster.core.create_namespaced_resource_quota(namespace, quota)
    default = client.V1LimitRangeItem(type="Container", default={"memory": "512Mi"}, default_request={"memory": "64Mi"})
    limits = client.V1LimitRange(
        metadata=client.V1ObjectMeta(name="default"), spec=client.V1LimitRangeSpec(limits=[default])
    )
    cluster.core.create_namespaced_limit_range(namespace, limits)
    Run(cluster, namespace, run("bounded")).until("Complete", "True")


def test_a_budget_of_gpus_is_a_quota_that_a_step_waits_for(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "quota", "gpus", "--hard=requests.nvidia.com/gpu=1", f"-n={namespace}")
    first = Run(cluster, namespace, run("first", step_is("i1-train", trouble="Hang"), compute={"device": "GPU"}))
    first.until_step("i1-train", "Running")
    until(lambda: [pod for pod in first.pods("i1-train") if pod.status.phase == "Running"], "pod with the one GPU")
    second = Run(cluster, namespace, run("second", compute={"device": "GPU"}))
    said = second.until("Progressing", "False", "QuotaExceeded")["message"]
    assert "requests.nvidia.com/gpu" in said
    first.delete()
    second.until("Complete", "True", seconds=150)
    assert all(step.get("failures", 0) == 0 for step in second.status["steps"])


def test_kubectl_apply_keeps_what_a_run_removes_of_its_pods(cluster: Cluster, namespace: str) -> None:
    """As on OpenShift, whose namespaces have uid ranges of their own: nulls are dropped where an object is made."""
    removed = {"$patch": "delete"}
    security = {"securityContext": {"runAsUser": removed, "runAsGroup": removed, "fsGroup": removed}}
    manifest = merge(run("openshift"), {"spec": {"compute": {"podTemplate": {"spec": security}}}})
    cluster.kubectl("apply", f"-n={namespace}", "-f=-", stdin=json.dumps(manifest))
    cluster.kubectl("wait", f"-n={namespace}", "sar/openshift", "--for=condition=Complete", "--timeout=60s")
    jobs = cluster.batch.list_namespaced_job(namespace).items
    for job in jobs:
        context = job.spec.template.spec.security_context
        assert (context.run_as_user, context.run_as_group, context.fs_group) == (None, None, None)
        assert (context.run_as_non_root, context.seccomp_profile.type) == (True, "RuntimeDefault")
    assert len(jobs) == 4


def test_a_runs_pods_are_found_by_its_name(cluster: Cluster, namespace: str) -> None:
    Run(cluster, namespace, run("named")).until("Complete", "True")
    Run(cluster, namespace, run("other")).until("Complete", "True")

    def found() -> set[str]:
        names = cluster.kubectl("get", "pods", f"-n={namespace}", "-l=selfalign.dev/run=named", "-o=name").split()
        return {name.removeprefix("pod/").rpartition("-")[0] for name in names}

    assert len(found()) == 4
    assert all(name.startswith("named-") for name in until(found, "pods"))
