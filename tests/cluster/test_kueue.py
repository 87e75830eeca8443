"""What Kueue does to a Job, done here by hand: it admits one with a flavor's nodes, evicts it, and admits it again."""

from __future__ import annotations

from typing import Any

import pytest
from runs import STEP, Run, finish, run, step_is

from selfalign_operator.views import QUEUE_LABEL
from testbed.cluster import Cluster
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")

KUEUE = "kueue"  # the manager of the fields that it writes
HANGS = {"trouble": "Hang"}


class Queue:
    """The part of Kueue's job reconciler that touches a Job (pkg/controller/jobs/job: RunWithPodSetsInfo, Stop)."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def job(self, step: str) -> Any:
        """The newest Job of that step, once there is one."""
        return until(lambda: [j for j in self.run.jobs() if j.metadata.labels[STEP] == step][-1:], f"Job of {step}")[0]

    def admit(self, step: str, node: str) -> None:
        """The nodes of the flavor and `suspend: false`, in one write."""
        directives = {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [{"operator": "Exists"}]}
        self._patch(step, {"template": {"spec": directives}, "suspend": False})

    def evict(self, step: str) -> None:
        """`suspend: true`; then, so that the template may change again, no startTime and no flavor."""
        self._patch(step, {"suspend": True})
        job, batch = self.job(step), self.run.cluster.batch
        batch.patch_namespaced_job_status(
            job.metadata.name, self.run.namespace, {"status": {"startTime": None}}, field_manager=KUEUE
        )
        self._patch(step, {"template": {"spec": {"nodeSelector": None, "tolerations": None}}})

    def _patch(self, step: str, spec: dict[str, Any]) -> None:
        job = self.job(step)
        self.run.cluster.batch.patch_namespaced_job(
            job.metadata.name, self.run.namespace, {"spec": spec}, field_manager=KUEUE
        )

    def until_queued(self, step: str) -> None:
        """Returns when the step is Queued, and the run says so."""
        self.run.until_step(step, "Queued")
        self.run.until("Progressing", "False", "Queued")
        until(lambda: self.run.status["state"] == "Queued", "state Queued")

    def until_runs(self, step: str, node: str) -> None:
        """Returns when the step runs, on that node alone, and the run says so."""
        self.run.until_step(step, "Running")
        self.run.until("Progressing", "True", "StepRunning")
        until(lambda: {pod.spec.node_name for pod in self.run.pods(step)} == {node}, f"pods of {step} on {node}")


@pytest.fixture(params=["queueName", "label"])
def queued(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Queue:
    """A run in a queue, named in its compute or by its label; its generation runs until it is deleted."""
    manifest = run("queued", step_is("i1-generate", **HANGS))
    if request.param == "label":
        manifest["metadata"]["labels"] = {QUEUE_LABEL: "team-a"}
    else:
        manifest["spec"]["compute"]["queueName"] = "team-a"
    return Queue(Run(cluster, namespace, manifest))


def test_a_run_is_queued_admitted_evicted_and_admitted_again_without_a_failure(cluster: Cluster, queued: Queue) -> None:
    queued.until_queued("accept")
    assert queued.job("accept").metadata.labels[QUEUE_LABEL] == "team-a"
    queued.admit("accept", "gpu-0")
    step = "i1-generate"
    queued.until_queued(step)
    assert queued.run.pods(step) == []
    queued.admit(step, "gpu-0")
    queued.until_runs(step, "gpu-0")

    queued.evict(step)
    queued.until_queued(step)
    until(lambda: queued.run.pods(step) == [], "end of the evicted pods")
    queued.admit(step, "gpu-1")
    queued.until_runs(step, "gpu-1")

    finish(cluster, queued.run, step)
    for step in ("i1-train", "i1-evaluate"):
        queued.until_queued(step)
        queued.admit(step, "gpu-0")
    queued.run.until("Complete", "True")
    steps = queued.run.status["steps"]
    assert [(each["attempts"], each["failures"], each["lostAttempts"]) for each in steps] == [(1, 0, [])] * 4
    assert {writer for job in queued.run.jobs() for writer in writers_of_suspend(job)} == {KUEUE}
    assert not {"StepRetrying", "Failed"} & set(queued.run.events())


def writers_of_suspend(job: Any) -> set[str]:
    """Who wrote spec.suspend last: whoever writes a field with another value takes it from the one before."""
    return {
        entry.manager
        for entry in job.metadata.managed_fields
        if "f:suspend" in (entry.fields_v1 or {}).get("f:spec", {})
    }
