"""The operator's process on a real apiserver, with a middle of a few lines (small_operator.py)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from selfalign_operator.kube.resources import RUN
from testbed.cluster import Cluster
from testbed.operator import Operator
from testbed.proxy import Proxy
from testbed.scripts import script
from testbed.waiting import until

GROUP, VERSION = RUN.api_version.split("/")
SPEC = {"recipe": "sao", "model": {"url": "hf://org/model"}, "storage": {"url": "s3://bucket/runs"}}
PROGRAM = (str(Path(__file__).with_name("small_operator.py")),)
Start = Callable[..., Operator]


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts an operator for the test's namespace, with its Lease there too."""
    running: list[Operator] = []

    def begin(*arguments: str, kubeconfig: Path | None = None) -> Operator:
        where = (f"--namespace={namespace}", f"--lease-namespace={namespace}", *arguments)
        operator = Operator(tmp_path, kubeconfig or cluster.kubeconfig, *where, program=PROGRAM)
        running.append(operator)
        return operator

    yield begin
    for operator in running:
        operator.stop()


@pytest.fixture
def proxy(cluster: Cluster, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path, cluster.kubeconfig)
    yield made
    made.stop()


def make_run(cluster: Cluster, namespace: str, name: str, annotations: dict[str, str] | None = None) -> None:
    metadata = {"name": name, "annotations": annotations or {}}
    body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": metadata, "spec": SPEC}
    cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, RUN.plural, body)


def run_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, namespace, RUN.plural, name)
    return found


def wait_state(cluster: Cluster, namespace: str, name: str, state: str, seconds: float = 60) -> None:
    until(
        lambda: run_of(cluster, namespace, name).get("status", {}).get("state") == state, f"{state} run {name}", seconds
    )


def delete_run(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.custom.delete_namespaced_custom_object(
        GROUP, VERSION, namespace, RUN.plural, name, propagation_policy="Background"
    )


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
    assert operator.end() == 0


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


def test_what_was_deleted_while_nobody_watched_is_gone(
    cluster: Cluster, namespace: str, start: Start, proxy: Proxy
) -> None:
    """A watch that is too old is followed by a list, and no word of what was deleted in between."""
    operator = start(kubeconfig=proxy.kubeconfig)
    for name in ("stays", "goes"):
        make_run(cluster, namespace, name, script(trouble="Hang"))
        wait_state(cluster, namespace, name, "Running")
    assert operator.value("runs") == 2
    gone = web.Response(
        text='{"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}\n',
        content_type="application/json",
    )

    def no_watches(request: web.Request) -> web.Response | None:
        return web.Response(status=503) if request.query.get("watch") == "true" else None

    proxy.intercept = no_watches
    proxy.cut()
    delete_run(cluster, namespace, "goes")
    until(lambda: len(cluster.batch.list_namespaced_job(namespace).items) == 1, "end of its Job")
    expired: set[str] = set()

    def too_old(request: web.Request) -> web.Response | None:
        if request.query.get("watch") != "true" or request.path in expired:
            return None
        expired.add(request.path)
        return web.Response(text=gone.text, content_type="application/json")

    proxy.intercept = too_old
    until(lambda: operator.value("runs") == 1, "forgotten run")
    wait_state(cluster, namespace, "stays", "Running")
    make_run(cluster, namespace, "goes", script(run_seconds=0.1))  # another run of its name is another run
    wait_state(cluster, namespace, "goes", "Complete")


def test_a_lost_job_is_asked_for_and_then_counts_as_lost(cluster: Cluster, namespace: str, start: Start) -> None:
    start()
    make_run(cluster, namespace, "run", script(trouble="Hang"))
    wait_state(cluster, namespace, "run", "Running")
    cluster.batch.delete_namespaced_job("run-one-1", namespace, propagation_policy="Background")
    wait_state(cluster, namespace, "run", "Failed")


def test_on_sigterm_it_ends_at_once_and_the_other_leads(cluster: Cluster, namespace: str, start: Start) -> None:
    first = start()
    first.wait_leads()
    second = start()
    second.wait_ready()
    assert not second.leads()
    began = time.monotonic()
    assert first.end() == 0
    ended = time.monotonic() - began
    second.wait_leads(3)
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    assert ended < 3


def test_after_kill_9_the_other_leads_within_twenty_seconds(cluster: Cluster, namespace: str, start: Start) -> None:
    first = start()
    first.wait_leads()
    second = start()
    second.wait_ready()
    first.send(signal.SIGKILL)
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete", seconds=20)
    assert second.leads()


def test_a_leader_that_is_cut_off_stops_leading_and_leads_again_when_nobody_else_does(
    cluster: Cluster, namespace: str, start: Start, proxy: Proxy
) -> None:
    operator = start(kubeconfig=proxy.kubeconfig)
    operator.wait_leads()
    proxy.closed = True
    proxy.cut()
    until(lambda: not operator.leads(), "end of leadership", 12)
    proxy.closed = False
    operator.wait_leads()
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")


def test_it_waits_for_its_crd_and_for_rayjobs(cluster: Cluster, namespace: str, start: Start, proxy: Proxy) -> None:
    absent = {"/apis/selfalign.dev/v1alpha1"}
    proxy.intercept = lambda request: web.Response(status=404) if request.path in absent else None
    operator = start(kubeconfig=proxy.kubeconfig)
    operator.wait_for(f"http://127.0.0.1:{operator.port}/healthz")
    until(lambda: operator.value("api_calls_total", verb="get", code="404"), "question")
    absent.clear()
    operator.wait_ready()


RIGHTS = (
    ("selfalign.dev", ["selfalignmentruns"], ["get", "list", "watch", "delete"]),
    ("selfalign.dev", ["selfalignmentruns/status"], ["patch", "update"]),
    ("selfalign.dev", ["selfalignmentruns/finalizers"], ["update"]),
    ("batch", ["jobs"], ["get", "list", "watch", "create", "delete"]),
    ("", ["pods", "events"], ["list"]),
    ("", ["services", "configmaps"], ["get", "create"]),
    ("", ["secrets"], ["create"]),
    ("", ["persistentvolumeclaims"], ["get"]),
    ("networking.k8s.io", ["networkpolicies"], ["get", "create"]),
    ("events.k8s.io", ["events"], ["create"]),
    ("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
)


def test_in_one_namespace_it_needs_these_rights_only(cluster: Cluster, namespace: str, start: Start) -> None:
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in RIGHTS]
    rights = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "operator"}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    for body in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}},
        rights | {"kind": "Role", "rules": rules},
        rights | {"kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
    ):
        cluster.kubectl("create", "-f-", f"-n={namespace}", stdin=json.dumps(body))
    operator = start(kubeconfig=cluster.kubeconfig_for_service_account(namespace, "operator"))
    make_run(cluster, namespace, "run", script(run_seconds=0.1))
    wait_state(cluster, namespace, "run", "Complete")
    assert operator.value("api_calls_total", code="403") == 0


def test_at_rest_it_is_small_and_quiet(cluster: Cluster, namespace: str, start: Start) -> None:
    for number in range(20):
        make_run(cluster, namespace, f"run-{number}", script(trouble="Hang"))
    operator = start()
    for number in range(20):
        wait_state(cluster, namespace, f"run-{number}", "Running")
    used = operator.cpu_seconds()
    time.sleep(5)  # what is measured is a time
    assert (operator.cpu_seconds() - used) / 5 < 0.05
    assert operator.resident_bytes() < 120e6
