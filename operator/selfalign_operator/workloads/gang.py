"""An attempt as an Indexed Job: a gang of pods that start, live and end together, or one pod.

Checked against the validation of Kubernetes 1.35 (pkg/apis/batch/validation): maxFailedIndexes needs
backoffLimitPerIndex, and a podFailurePolicy allows podReplacementPolicy Failed only.
"""

from __future__ import annotations

from selfalign_api.outcome import Exit
from selfalign_api.platform import STEP_CONTAINER
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.names import base_name, workload_name
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.metadata import suspended, workload_metadata
from selfalign_operator.workloads.pod import pod_template, ray_token, shape_of
from selfalign_operator.workloads.ports import ports_of


def job(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """The Indexed Job of an attempt; suspended with a queue, for Kueue to start it."""
    shape = shape_of(effective, attempt)
    size = shape.size
    name = workload_name(effective.name, effective.uid, attempt.step, attempt.number, collect=attempt.collect)
    spec = {
        "completionMode": "Indexed",
        "completions": size,
        "parallelism": size,
        **_policies(effective, attempt, size),
        "podReplacementPolicy": "Failed",
        **suspended(effective),
        "template": pod_template(effective, attempt, _gang_environment(effective, attempt, name, size)),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": workload_metadata(effective, attempt, name, shape.gpus),
        "spec": spec,
    }


def _policies(effective: EffectiveRun, attempt: Attempt, size: int) -> Manifest:
    if attempt.kind == "train" and not attempt.collect:
        # A rank that is lost ends the attempt: one that is replaced would hang in the rendezvous.
        return _failure_policy("FailJob") | {"backoffLimit": 0}
    if size == 1:
        return _failure_policy("Ignore") | {"backoffLimit": 0}
    # Index 0 alone says whether the step is done; the others serve it, and are replaced.
    return _failure_policy("Ignore") | {
        "backoffLimitPerIndex": effective.spec.failure_policy.max_retries_per_step,
        "maxFailedIndexes": 0,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }


def _failure_policy(disrupted: str) -> Manifest:
    """What ends the Job at once: a wrong configuration; and what a drained, evicted or preempted pod does to it."""
    wrong = {"containerName": STEP_CONTAINER, "operator": "In", "values": [int(Exit.CONFIG)]}
    rules = [
        {"action": "FailJob", "onExitCodes": wrong},
        {"action": disrupted, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {"podFailurePolicy": {"rules": rules}}


def _gang_environment(effective: EffectiveRun, attempt: Attempt, name: str, size: int) -> list[Manifest]:
    """What a pod must know of its gang beside JOB_COMPLETION_INDEX, which the Job's controller sets."""
    if size == 1:
        return []
    gang: list[Manifest] = [
        {"name": "SELFALIGN_GANG_SIZE", "value": str(size)},
        {"name": "SELFALIGN_GANG_HEAD", "value": f"{name}-0.{base_name(effective.name, effective.uid)}"},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    if attempt.kind == "train":
        seconds = effective.spec.failure_policy.startup_deadline_seconds
        own = {"SELFALIGN_STARTUP_SECONDS": seconds}
        if (port := ports_of(effective, attempt).rendezvous) is not None:
            own["SELFALIGN_GANG_PORT"] = port
        return [*gang, *({"name": name, "value": str(value)} for name, value in own.items())]
    return [*gang, *ray_token(effective)]
