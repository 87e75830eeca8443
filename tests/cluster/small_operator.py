"""An operator with a middle of a few lines: one Job a run, and the status says when it is done. For the process's tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from typing import Any

from selfalign_api.status import Status, StepStatus, WorkloadRef
from selfalign_operator.cli import options_of, parser
from selfalign_operator.decision import Decision, RunEvent
from selfalign_operator.effective import Frozen
from selfalign_operator.logs import log_to_stderr
from selfalign_operator.process import OperatorProcess
from selfalign_operator.views import Manifest, Observed, RunView


class OneJob:
    """Pending → Running with a Job → Complete."""

    def decide(self, observed: Observed) -> Decision:
        run = observed.run
        if run.deleting or run.status.state == "Complete":
            return Decision(status=run.status)
        ours = [each for each in observed.workloads if each.owner_uid == run.uid]
        if not ours:
            if run.status.state == "Running":
                return Decision(status=run.status.model_copy(update={"state": "Failed"}))
            step = StepStatus(
                name="one", kind="train", iteration=1, state="Running", attempts=1,
                workload=WorkloadRef(api_version="batch/v1", kind="Job", name=f"{run.name}-one-1", uid="pending"),
            )  # fmt: skip
            status = Status(state="Running", steps=(step,))
            started = RunEvent("Normal", "StepStarted", "one starts")
            return Decision(status, creations=(job(run),), workload_of="one", events=(started,))
        if ours[0].phase == "Complete":
            return Decision(status=run.status.model_copy(update={"state": "Complete"}))
        return Decision(status=run.status, look_again_seconds=60.0)

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        return ()

    def frozen(self, config_map: dict[str, Any]) -> Frozen | None:
        return None


def job(run: RunView) -> Manifest:
    """An Indexed Job as the operator makes them, that does what the run's annotations say."""
    labels = {"selfalign.dev/run-uid": run.uid, "selfalign.dev/step": "one", "selfalign.dev/attempt": "1"}
    owner = {
        "apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "name": run.name, "uid": run.uid,
        "controller": True,
    }  # fmt: skip
    wrong = {"containerName": "step", "operator": "In", "values": [64]}
    template = {
        "metadata": {"labels": labels, "annotations": dict(run.annotations)},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "step", "image": "example.invalid/step"}]},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{run.name}-one-1", "namespace": run.namespace, "labels": labels, "ownerReferences": [owner],
        },
        "spec": {
            "completionMode": "Indexed", "completions": 1, "parallelism": 1, "backoffLimit": 0,
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": wrong}]}, "template": template,
        },
    }  # fmt: skip


if __name__ == "__main__":
    log_to_stderr("text")
    options = options_of(parser().parse_args(sys.argv[1:]))

    async def main() -> None:
        await OperatorProcess(options, OneJob()).run()

    asyncio.run(main())
