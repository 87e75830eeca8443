"""The operator's process on a real apiserver, with a middle of a few lines (small_operator.py).

Kopf's watches, relists and failures are in tests/unit/test_process_whole.py, before an apiserver that can be told to fail.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from operators import OperatorProcess, stop_all
from rights import RIGHTS

from selfalign_operator.kube.resources import RUN
from testbed.cluster import Cluster
from testbed.scripts import script
from testbed.waiting import until

GROUP, VERSION = RUN.api_version.split("/")
SPEC = {"recipe": "sao", "model": {"url": "hf://org/model"}, "storage": {"url": "s3://bucket/runs"}}
PROGRAM = (str(Path(__file__).with_name("small_operator.py")),)
Start = Callable[..., OperatorProcess]


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts an operator for the test's namespace, with its Lease there too."""
    running: list[OperatorProcess] = []

    def begin(kubeconfig: Path | None = None) -> OperatorProcess:
        where = (f"--namespace={namespace}", f"--lease-namespace={namespace}")
        folder = tmp_path / f"operator-{len(running)}"
        running.append(OperatorProcess(folder, kubeconfig or cluster.kubeconfig, *where, program=PROGRAM))
        running[-1].wait_ready()
        return running[-1]

    yield begin
    stop_all(running)


def make_run(cluster: Cluster, namespace: str, name: str, annotations: dict[str, str] | None = None) -> None:
    metadata = {"name": name, "annotations": annotations or {}}
    body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": metadata, "spec": SPEC}
    cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, RUN.plural, body)


def run_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, namespace, RUN.plural, name)
    return found


def wait_state(cluster: Cluster, namespace: str, name: str, state: str) -> None:
    until(lambda: run_of(cluster, namespace, name).get("status", {}).get("state") == state, f"{state} run {name}")


def test_a_run_gets_its_job_and_is_complete_with_it(cluster: Cluster, namespace: str, start: Start) -> None:
    operator = start()
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    job = cluster.batch.read_namespaced_job("run-one-1", namespace)
    assert run_of(cluster, namespace, "run")["status"]["steps"][0]["workload"]["uid"] == job.metadata.uid
    made = [each for each in cluster.core.list_namespaced_event(namespace).items if each.reason == "StepStarted"]
    assert len(made) == 1
    writes = sum(operator.value("api_calls_total", verb=verb) for verb in ("create", "patch"))
    assert writes <= 5  # a Job, two statuses, an Event, the Lease
    assert operator.value("steps_total") == 0
    assert operator.stop() == 0


def test_kopf_writes_nothing_on_runs_and_jobs(cluster: Cluster, namespace: str, start: Start) -> None:
    start()
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    metadata = run_of(cluster, namespace, "run")["metadata"]
    assert "finalizers" not in metadata
    assert not [name for name in metadata["annotations"] if "kopf" in name]
    assert {each["manager"] for each in metadata["managedFields"]} <= {"OpenAPI-Generator", "selfalign-operator"}
    job = cluster.batch.read_namespaced_job("run-one-1", namespace)
    assert not [name for name in job.metadata.annotations or {} if "kopf" in name]


def test_runs_that_were_there_before_are_found(cluster: Cluster, namespace: str, start: Start) -> None:
    for number in range(5):
        make_run(cluster, namespace, f"run-{number}", script(run_seconds=0.1))
    start()
    for number in range(5):
        wait_state(cluster, namespace, f"run-{number}", "Complete")


def test_a_lost_job_is_asked_for_and_then_counts_as_lost(cluster: Cluster, namespace: str, start: Start) -> None:
    start()
    make_run(cluster, namespace, "run", script(trouble="Hang"))
    wait_state(cluster, namespace, "run", "Running")
    cluster.batch.delete_namespaced_job("run-one-1", namespace, propagation_policy="Background")
    wait_state(cluster, namespace, "run", "Failed")


def test_on_sigterm_it_ends_at_once_and_the_other_leads(cluster: Cluster, namespace: str, start: Start) -> None:
    first = start()
    until(first.leads, "leader")
    second = start()
    assert not second.leads()
    began = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - began < 3
    until(second.leads, "other leader", 3)
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")


def test_after_kill_9_the_other_goes_on(cluster: Cluster, namespace: str, start: Start) -> None:
    first = start()
    until(first.leads, "leader")
    second = start()
    first.stop(signal.SIGKILL)
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    assert second.leads()


def allow(cluster: Cluster, namespace: str, account: str, owner: str) -> None:
    """A Role with the operator's rights in a namespace, for a service account of another or the same."""
    lease = ("coordination.k8s.io", ["leases"], ["get", "create", "update"])
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in (*RIGHTS, lease)]
    rights = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": account}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": owner}
    for body in (
        rights | {"kind": "Role", "rules": rules},
        rights | {"kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
    ):
        cluster.kubectl("create", "-f-", f"-n={namespace}", stdin=json.dumps(body))


def test_in_one_namespace_it_needs_these_rights_only(cluster: Cluster, namespace: str, start: Start) -> None:
    cluster.kubectl("create", "serviceaccount", "operator", f"-n={namespace}")
    allow(cluster, namespace, "operator", namespace)
    operator = start(kubeconfig=cluster.kubeconfig_for_service_account(namespace, "operator"))
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    assert operator.value("api_calls_total", code="403") == 0


def of_lease(cluster: Cluster, namespace: str) -> str:
    """What a person sees of it, with its Events."""
    return cluster.kubectl("describe", "lease", "selfalign-operator", f"-n={namespace}")


def test_a_tenant_that_takes_its_rights_away_stops_nobody_else(
    cluster: Cluster, make_namespace: Callable[[], str], tmp_path: Path
) -> None:
    home, theirs = make_namespace(), make_namespace()
    cluster.kubectl("create", "serviceaccount", "operator", f"-n={home}")
    for namespace in (home, theirs):
        allow(cluster, namespace, "operator", home)
    cluster.kubectl("delete", "rolebinding", "operator", f"-n={theirs}")
    kubeconfig = cluster.kubeconfig_for_service_account(home, "operator")
    where = (f"--namespace={theirs}", f"--namespace={home}", f"--lease-namespace={home}")
    operator = OperatorProcess(tmp_path, kubeconfig, *where, program=PROGRAM)
    try:
        operator.wait_ready()
        make_run(cluster, theirs, "run", script(run_seconds=0.1))
        make_run(cluster, home, "run", script(run_seconds=0.1))
        wait_state(cluster, home, "run", "Complete")
        assert f"namespace {theirs} cannot be read" in (operator.read("/readyz") or "")
        assert operator.value("namespace_unreadable", namespace=theirs) == 1
        until(lambda: f"namespace {theirs} cannot be read" in of_lease(cluster, home), "Event of the Lease")
        assert operator.read("/healthz") is not None
        role = ("--role=operator", f"--serviceaccount={home}:operator")
        cluster.kubectl("create", "rolebinding", "operator", *role, f"-n={theirs}")
        wait_state(cluster, theirs, "run", "Complete")
        until(lambda: operator.value("namespace_unreadable", namespace=theirs) == 0, "readable namespace")
        until(lambda: f"namespace {theirs} can be read again" in of_lease(cluster, home), "Event of the Lease")
    finally:
        stop_all([operator])


def test_at_rest_it_is_small_and_writes_nothing(cluster: Cluster, namespace: str, start: Start) -> None:
    names = [f"run-{number}" for number in range(20)]
    for name in names:
        make_run(cluster, namespace, name, script(trouble="Hang"))
    operator = start()
    for name in names:
        wait_state(cluster, namespace, name, "Running")
    versions = [run_of(cluster, namespace, name)["metadata"]["resourceVersion"] for name in names]
    make_run(cluster, namespace, "other", script(run_seconds=0.1))
    wait_state(cluster, namespace, "other", "Complete")
    assert [run_of(cluster, namespace, name)["metadata"]["resourceVersion"] for name in names] == versions
    assert resident_bytes(operator) < 120e6


def resident_bytes(operator: OperatorProcess) -> int:
    """Its memory."""
    return int(Path(f"/proc/{operator.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
