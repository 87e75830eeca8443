"""The player runs the real programs of a run's pods, rendered as the operator renders them, and ends them as they end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playing import REAL_PROGRAM, playing
from runs import GROUP, PLURAL, VERSION

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.outcome import unpack_steps
from selfalign_operator.effective import Attempt
from selfalign_operator.read import run_view
from selfalign_operator.rendering import Manifests
from testbed.cluster import Cluster
from testbed.standing import CLAIM, EXAMPLE_MODEL, OPERATOR_CONFIG, REPOSITORY
from testbed.waiting import until

EXAMPLE = read_yaml((REPOSITORY / "examples" / "sao-tiny.yaml").read_text(), "sao-tiny.yaml")
STUB = (sys.executable, str(Path(__file__).with_name("played_step.py")))
ACCEPT = Attempt("accept", "accept", 0, 1)
GENERATE = Attempt("i1-generate", "generate", 1, 1)


class RealRun:
    """A run of the example in a namespace with its claim: its objects are made, its attempts are the test's to start."""

    def __init__(self, cluster: Cluster, namespace: str, claims: Path, **compute: Any) -> None:
        self.cluster, self.namespace, self.claim = cluster, namespace, claims / CLAIM
        shutil.copytree(EXAMPLE_MODEL, self.claim / EXAMPLE_MODEL.name)
        cluster.add_claim(namespace, CLAIM, self.claim)
        spec = EXAMPLE["spec"] | {"compute": EXAMPLE["spec"]["compute"] | compute}
        manifest = EXAMPLE | {"metadata": {"name": "tiny"}, "spec": spec}
        made = cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, manifest)
        view = run_view(made)
        assert view is not None
        self._manifests = Manifests()
        self._effective = self._manifests.effective(view, parse(OperatorConfig, OPERATOR_CONFIG, ""), None)
        for each in self._manifests.run_objects(self._effective):
            cluster.kubectl("create", "-f=-", stdin=json.dumps(each))

    def start(self, attempt: Attempt) -> str:
        """Makes the Job of an attempt; its name."""
        job = self._manifests.workload(self._effective, attempt)
        self.cluster.batch.create_namespaced_job(self.namespace, job)
        name: str = job["metadata"]["name"]
        return name

    def pod(self, job: str, wanted: Callable[[Any], bool], what: str) -> Any:
        """The pod of a Job, once it is so."""

        def look() -> Any:
            labels = f"batch.kubernetes.io/job-name={job}"
            found = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=labels).items
            return next((pod for pod in found if wanted(pod)), None)

        return until(look, f"pod of {job} that {what}", seconds=120)

    def end(self, job: str) -> tuple[int, dict[str, Any]]:
        """Exit code and termination message of the Job's pod."""
        pod = self.pod(job, lambda pod: pod.status.phase in ("Succeeded", "Failed"), "has ended")
        state = pod.status.container_statuses[0].state.terminated
        assert (state.exit_code == 0) == (pod.status.phase == "Succeeded")
        return state.exit_code, json.loads(state.message)

    def progress(self, job: str) -> Any:
        """What the pod's /progress says through the apiserver (pods/proxy), once it answers."""
        pod = self.pod(job, lambda pod: pod.status.phase == "Running", "runs")
        path = f"/api/v1/namespaces/{self.namespace}/pods/http:{pod.metadata.name}:8080/proxy/progress"

        def look() -> str | None:
            try:
                return self.cluster.kubectl("get", "--raw", path)
            except RuntimeError:
                return None

        return json.loads(until(look, f"progress of {job}"))


@pytest.fixture
def stub(cluster: Cluster, tmp_path: Path) -> Iterator[None]:
    with playing(cluster, tmp_path, STUB):
        yield


def test_accept_and_collect_are_the_real_programs_on_the_claims_folder(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    run = RealRun(cluster, namespace, tmp_path)
    with playing(cluster, tmp_path, REAL_PROGRAM):
        code, summary = run.end(run.start(ACCEPT))
        assert code == 0
        assert [step[0] for step in unpack_steps(summary["steps"])] == ["i1-generate", "i1-train", "i1-evaluate"]
        assert (run.claim / "runs" / namespace / "tiny" / "plan.json").exists()
        code, missing = run.end(run.start(Attempt("i1-generate", "generate", 1, 1, collect=True)))
        assert (code, missing["reason"]) == (1, "ResultMissing")


@pytest.mark.usefixtures("stub")
def test_progress_is_reached_through_the_apiserver(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    run = RealRun(cluster, namespace, tmp_path)
    found = run.progress(run.start(GENERATE))
    assert (found["step"], found["phase"], found["done"], found["total"]) == ("i1-generate", "wait", 2, 6)


@pytest.mark.usefixtures("stub")
def test_a_deleted_pod_gets_sigterm_and_ends_as_its_program_does(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    greeting = {"name": "GREETING", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['selfalign.dev/step']"}}}
    template = {
        # A finalizer of the test's own lets it see how the pod ended.
        "metadata": {"finalizers": ["testbed.selfalign.dev/seen"]},
        "spec": {"containers": [{"name": "step", "env": [greeting]}]},
    }
    run = RealRun(cluster, namespace, tmp_path, podTemplate=template)
    job = run.start(GENERATE)
    run.progress(job)
    pod = run.pod(job, lambda pod: True, "is there")
    cluster.core.delete_namespaced_pod(pod.metadata.name, namespace)
    code, message = run.end(job)
    here = str(run.claim)
    assert (code, message["home"]) == (75, os.environ["HOME"])
    assert message["stopped"] == {
        "storage": f"file://{here}/runs/{namespace}/tiny",
        "mounts": {CLAIM: here},
        "GREETING": "i1-generate",
    }
    cluster.core.patch_namespaced_pod(pod.metadata.name, namespace, {"metadata": {"finalizers": None}})


@pytest.mark.usefixtures("stub")
def test_a_deleted_job_takes_its_program_and_its_pod_with_it(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    run = RealRun(cluster, namespace, tmp_path)
    job = run.start(GENERATE)
    run.progress(job)
    cluster.batch.delete_namespaced_job(job, namespace, propagation_policy="Background")
    until(lambda: not cluster.core.list_namespaced_pod(namespace).items, "end of the pod")


@pytest.mark.usefixtures("stub")
def test_a_gangs_pod_is_refused_with_what_to_write_instead(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    run = RealRun(cluster, namespace, tmp_path, generation={"replicas": 2})
    code, message = run.end(run.start(GENERATE))
    assert code == 64
    assert "compute.generation.replicas: 1" in message["error"]


@pytest.mark.usefixtures("stub")
def test_a_pod_whose_secret_is_missing_says_so(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    missing = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "token"}}}
    template = {"spec": {"containers": [{"name": "step", "env": [missing]}]}}
    run = RealRun(cluster, namespace, tmp_path, podTemplate=template)
    code, message = run.end(run.start(GENERATE))
    assert (code, message["error"]) == (64, 'secrets "nowhere" not found')


def test_a_player_that_is_started_anew_ends_what_it_has_lost(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    run = RealRun(cluster, namespace, tmp_path)
    with ExitStack() as first:
        first.enter_context(playing(cluster, tmp_path, STUB))
        job = run.start(GENERATE)
        run.progress(job)
    with playing(cluster, tmp_path, STUB):
        code, message = run.end(job)
    assert code == 137
    assert "lost the program" in message["error"]
