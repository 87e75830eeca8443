"""A run whose engines KubeRay starts: the real KubeRay on pods that KWOK plays. `make e2e-more`, where it is there."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operators import OperatorProcess
from ray_dashboard import Dashboards, Said
from runs import COLLECT, STEP, Run, run

from testbed import kuberay
from testbed.cluster import Cluster
from testbed.kuberay import KubeRay
from testbed.scripts import Rule, script
from testbed.waiting import until

pytestmark = pytest.mark.skipif(not kuberay.is_here(), reason="NO KUBERAY: set KUBERAY_OPERATOR and KUBERAY_CRDS")

GENERATE = "i1-generate"
RAY = {"generation": {"runtime": "RayJob", "replicas": 2}}
NODE_TYPE = "ray.io/node-type"
UP = [Rule(script(trouble="Hang"), where={NODE_TYPE: node}) for node in ("head", "worker")]
RUNNING, SUCCEEDED = Said("RUNNING"), Said("SUCCEEDED")


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboards]:
    """KubeRay at work, and what it takes for Ray's dashboards."""
    dashboards = Dashboards(cluster)
    kuberay = KubeRay(cluster, tmp_path_factory.mktemp("kuberay"), dashboards=dashboards.proxy)
    yield dashboards
    kuberay.uninstall()
    dashboards.stop()


@pytest.fixture
def dashboards(installed: Dashboards) -> Dashboards:
    """With nothing to say yet."""
    installed.says.clear()
    return installed


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator for this test's namespace alone: one test ends it."""
    operator = start_operator(cluster, namespace, tmp_path)
    yield operator
    operator.stop()


def start_operator(cluster: Cluster, namespace: str, folder: Path) -> OperatorProcess:
    options = ("--no-leader-election", f"--namespace={namespace}")
    operator = OperatorProcess(folder, cluster.kubeconfig, *options)
    operator.wait_ready()
    return operator


class RayRun(Run):
    """A run of two engines by KubeRay."""

    def __init__(self, cluster: Cluster, namespace: str, *rules: Rule, **compute: Any) -> None:
        super().__init__(cluster, namespace, run("rays", *UP, *rules, compute=RAY | compute))

    def until_step(self, name: str, state: str, attempts: int = 1, seconds: float = 150) -> dict[str, Any]:
        """As before: KubeRay looks every three seconds, and takes several looks for each stage."""
        return super().until_step(name, state, attempts, seconds)

    def nodes(self, node_type: str) -> list[Any]:
        """The pods of the generation's newest cluster that are not on their way out."""
        labels = f"selfalign.dev/run-uid={self.uid},{STEP}={GENERATE},{NODE_TYPE}={node_type}"
        pods = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=labels).items
        return [pod for pod in pods if pod.metadata.deletion_timestamp is None]

    def until_whole(self, attempts: int = 1) -> None:
        """Returns when the generation's pods run, and its job, and the run says so."""
        self.until_step(GENERATE, "Running", attempts)
        until(lambda: self.step(GENERATE).get("runningSince"), f"{GENERATE} with all its pods")
        until(lambda: (self.rayjob() or {}).get("status", {}).get("jobStatus") == "RUNNING", "running Ray job")

    def rayjob(self) -> dict[str, Any] | None:
        """The newest RayJob."""
        found = json.loads(self.cluster.kubectl("get", "rayjob", f"-n={self.namespace}", "-o=json"))["items"]
        return max(found, key=lambda each: each["metadata"]["creationTimestamp"], default=None)

    def lose(self, node_type: str) -> None:
        """A pod of that type is gone at once, with its node."""
        for pod in self.nodes(node_type):
            self.cluster.core.delete_namespaced_pod(pod.metadata.name, self.namespace, grace_period_seconds=0)

    def of_ray(self) -> str:
        """Ray's clusters in the namespace, and their pods."""
        where = (f"-n={self.namespace}", "-o=name")
        return self.cluster.kubectl("get", "raycluster", *where) + self.cluster.kubectl(
            "get", "pod", "-l=ray.io/cluster", *where
        )


@pytest.mark.usefixtures("operator")
def test_a_run_completes_its_results_collected_and_its_clusters_gone(
    cluster: Cluster, namespace: str, dashboards: Dashboards
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    assert (len(made.nodes("head")), len(made.nodes("worker"))) == (1, 1)
    assert f"Bearer {token_of(made)}" in dashboards.tokens
    dashboards.says[GENERATE, 1] = SUCCEEDED
    made.until("Complete", "True", seconds=150)
    assert [each["attempts"] for each in made.status["steps"]] == [1, 1, 1, 1]
    assert {j.metadata.labels[STEP] for j in made.jobs() if COLLECT in j.metadata.labels} == {GENERATE, "i1-evaluate"}
    until(lambda: not made.of_ray(), "end of Ray's clusters")


def token_of(made: RayRun) -> str:
    """What Ray's processes of this run show one another: of a Secret of KubeRay's own."""
    (variable,) = [each for each in made.nodes("head")[0].spec.containers[0].env if each.name == "RAY_AUTH_TOKEN"]
    reference = variable.value_from.secret_key_ref
    secret = made.cluster.core.read_namespaced_secret(reference.name, made.namespace)
    return b64decode(secret.data[reference.key]).decode()


@pytest.mark.usefixtures("operator")
def test_a_lost_worker_is_replaced_within_the_attempt(cluster: Cluster, namespace: str, dashboards: Dashboards) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    before = made.nodes("worker")[0].metadata.uid
    made.lose("worker")
    until(lambda: [p for p in made.nodes("worker") if p.metadata.uid != before], "another worker")
    dashboards.says[GENERATE, 1] = SUCCEEDED
    step = made.until_step(GENERATE, "Succeeded")
    assert (step["attempts"], step["failures"]) == (1, 0)


@pytest.mark.usefixtures("operator")
def test_a_lost_head_ends_the_attempt_at_once_and_the_next_one_goes_on(
    cluster: Cluster, namespace: str, dashboards: Dashboards
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    made.lose("head")
    step = made.until_step(GENERATE, "Succeeded", attempts=2)
    (lost,) = step["lostAttempts"]
    assert (lost["number"], lost["reason"]) == (1, "StepFailed")
    assert "head is gone" in lost["message"]


@pytest.mark.usefixtures("operator")
def test_suspending_ends_the_rayjob_and_resuming_makes_the_next(
    cluster: Cluster, namespace: str, dashboards: Dashboards
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True", "SpecSuspended")
    until(lambda: made.rayjob() is None and not made.of_ray(), "end of the RayJob and of its cluster")
    assert dashboards.stopped
    made.patch({"spec": {"suspend": False}})
    step = made.until_step(GENERATE, "Succeeded", attempts=2)
    assert (step["failures"], step["lostAttempts"][0]["reason"]) == (0, "Suspended")


@pytest.mark.usefixtures("operator")
def test_deleting_the_run_deletes_all_that_kuberay_made(
    cluster: Cluster, namespace: str, dashboards: Dashboards
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    made.delete()
    until(lambda: made.rayjob() is None and not made.of_ray(), "end of the RayJob and of its cluster")


@pytest.mark.usefixtures("operator", "dashboards")
def test_an_image_that_is_not_there_is_named(cluster: Cluster, namespace: str) -> None:
    made = RayRun(cluster, namespace, Rule(script(trouble="ImagePullBackOff"), where={NODE_TYPE: "head"}))
    assert "image" in made.until("Progressing", "False", "ImagePullFailed")["message"]


@pytest.mark.usefixtures("operator")
def test_exit_64_in_the_rayjobs_message_ends_the_run(cluster: Cluster, namespace: str, dashboards: Dashboards) -> None:
    message = (
        "Job entrypoint command failed with exit code 64, last available logs (truncated to 20,000 chars):\nno roles"
    )
    dashboards.says[GENERATE, 1] = Said("FAILED", message)
    made = RayRun(cluster, namespace)
    assert "no roles" in made.until("Failed", "True", "InvalidConfig")["message"]
    assert made.step(GENERATE)["attempts"] == 1


@pytest.mark.usefixtures("operator")
def test_a_failed_rayjob_is_followed_by_another(cluster: Cluster, namespace: str, dashboards: Dashboards) -> None:
    dashboards.says[GENERATE, 1] = Said("FAILED", "Job entrypoint command failed with exit code 1. No logs available.")
    step = RayRun(cluster, namespace).until_step(GENERATE, "Succeeded", attempts=2)
    (lost,) = step["lostAttempts"]
    assert (lost["reason"], lost["exitCode"], lost["counted"]) == ("StepFailed", 1, True)


@pytest.mark.usefixtures("operator", "dashboards")
def test_what_kuberay_refuses_is_told_in_its_words(cluster: Cluster, namespace: str) -> None:
    step = {"name": "step", "env": [{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}]}
    generation = RAY["generation"] | {"podTemplate": {"spec": {"containers": [step]}}}
    made = RayRun(cluster, namespace, generation=generation)
    assert "RAY_REDIS_ADDRESS" in made.until("Failed", "True", "InvalidConfig")["message"]


def test_a_rayjob_that_ends_while_the_operator_is_down_counts(
    cluster: Cluster, namespace: str, dashboards: Dashboards, operator: OperatorProcess, tmp_path: Path
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace)
    made.until_whole()
    operator.stop()
    dashboards.says[GENERATE, 1] = SUCCEEDED
    until(lambda: not made.of_ray(), "end of Ray's cluster")
    again = start_operator(cluster, namespace, tmp_path / "again")
    try:
        step = made.until_step(GENERATE, "Succeeded")
        assert (step["attempts"], step["lostAttempts"]) == (1, [])
    finally:
        again.stop()


@pytest.mark.usefixtures("operator")
def test_in_a_queue_a_rayjob_is_admitted_evicted_and_admitted_again(
    cluster: Cluster, namespace: str, dashboards: Dashboards
) -> None:
    dashboards.says[GENERATE, 1] = RUNNING
    made = RayRun(cluster, namespace, queueName="team-a")
    made.until_step("accept", "Queued")
    (accept,) = until(made.jobs, "Job of accept")
    cluster.batch.patch_namespaced_job(accept.metadata.name, namespace, {"spec": {"suspend": False}})
    for _ in range(2):
        made.until_step(GENERATE, "Queued")
        until(lambda: made.rayjob() is not None and not made.nodes("head"), "RayJob without pods")
        write_suspend(made, suspend=False)
        made.until_whole()
        write_suspend(made, suspend=True)
    made.until_step(GENERATE, "Queued")
    dashboards.says[GENERATE, 1] = SUCCEEDED
    write_suspend(made, suspend=False)
    # What collects its result waits for the queue as well.
    until(lambda: made.step(GENERATE)["workload"]["kind"] == "Job", "Job that collects")
    step = made.step(GENERATE)
    assert (step["attempts"], step["failures"], step["lostAttempts"]) == (1, 0, [])


def write_suspend(made: RayRun, *, suspend: bool) -> None:
    """As Kueue does."""
    found = made.rayjob()
    assert found is not None
    patch = json.dumps({"spec": {"suspend": suspend}})
    made.cluster.kubectl(
        "patch", "rayjob", found["metadata"]["name"], f"-n={made.namespace}", "--type=merge", f"-p={patch}"
    )
