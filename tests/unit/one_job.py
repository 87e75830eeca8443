"""A middle of a few lines for tests of the process: one Job a run, and the status says when it is done."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from selfalign_api.status import PlanStatus, Status, StepStatus, WorkloadRef
from selfalign_operator.decision import Decision, RunEvent
from selfalign_operator.effective import Frozen
from selfalign_operator.views import Manifest, Observed, RunView


class OneJob:
    """Pending → Running with a Job → Complete, or Failed without it."""

    def decide(self, observed: Observed) -> Decision:
        run = observed.run
        if run.deleting or run.status.state in ("Complete", "Failed"):
            return Decision(status=run.status)
        ours = [each for each in observed.workloads if each.owner_uid == run.uid]
        if not ours:
            return self._lost(run) if run.status.state == "Running" else self._start(run)
        if ours[0].phase == "Complete":
            return Decision(status=run.status.model_copy(update={"state": "Complete"}))
        return Decision(status=run.status, look_again_seconds=60.0)

    def _lost(self, run: RunView) -> Decision:
        return Decision(status=run.status.model_copy(update={"state": "Failed"}))

    def _start(self, run: RunView) -> Decision:
        workload = WorkloadRef(api_version="batch/v1", kind="Job", name=f"{run.name}-one-1", uid="pending")
        step = StepStatus(name="one", kind="train", iteration=1, state="Running", attempts=1, workload=workload)
        started = RunEvent("Normal", "StepStarted", "one starts")
        return Decision(
            Status(state="Running", steps=(step,)), creations=(job(run),), workload_of="one", events=(started,)
        )

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        return ()

    def asks_for_labels(self, run: RunView, frozen: Frozen | None) -> bool:
        return False

    def frozen(self, config_map: dict[str, Any]) -> Frozen | str:
        return "is not read here"

    def frozen_of_status(self, plan: PlanStatus) -> Frozen | str:
        return "is gone"


def job(run: RunView) -> Manifest:
    """An Indexed Job as the operator makes them; its pod does what the run's annotations say."""
    labels = {"selfalign.dev/run-uid": run.uid, "selfalign.dev/step": "one", "selfalign.dev/attempt": "1"}
    owner = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "name": run.name, "uid": run.uid}
    wrong = {"containerName": "step", "operator": "In", "values": [64]}
    pod = {"restartPolicy": "Never", "containers": [{"name": "step", "image": "example.invalid/step"}]}
    template = {"metadata": {"labels": labels, "annotations": dict(run.annotations)}, "spec": pod}
    policies = {"backoffLimit": 0, "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": wrong}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{run.name}-one-1",
            "namespace": run.namespace,
            "labels": labels,
            "ownerReferences": [owner | {"controller": True}],
        },
        "spec": {"completionMode": "Indexed", "completions": 1, "parallelism": 1, "template": template} | policies,
    }
