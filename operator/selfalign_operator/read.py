"""Objects of the cluster, as JSON, into views. Strict about types: what is malformed is None here and skipped.

Whoever can write in a namespace can put our labels on anything, so nothing is taken for granted of a child.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.status import read_status
from selfalign_operator.views import (
    ATTEMPT_LABEL,
    COLLECT_LABEL,
    GPUS_ANNOTATION,
    PROGRESS_PORT,
    STEP_LABEL,
    ClaimView,
    EventView,
    JobPhase,
    PodView,
    RunView,
    WorkloadView,
)

__all__ = [
    "claim_view", "controller_uid", "event_view", "labels_of", "moment", "pod_view", "queue_words", "run_view", "text",
    "workload_view",
]  # fmt: skip

Json = Mapping[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"  # label and annotation of the pods of an Indexed Job
RAY_NODE = "ray.io/node-type"  # label of KubeRay's pods: head or worker
RAY_JOB_STATES = ("", "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED")
QUEUE_WORDS = 500  # characters
EPOCH = datetime.fromtimestamp(0, UTC)
COMPLETE = ("Complete", "SuccessCriteriaMet")
FAILED = ("Failed", "FailureTarget")


def run_view(run: Json) -> RunView | None:
    """A SelfAlignmentRun; spec and status may be anything."""
    metadata = _object(run, "metadata")
    namespace, name, uid = (text(metadata, field) for field in ("namespace", "name", "uid"))
    if not (namespace and name and uid):
        return None
    status, problems = read_status(run.get("status"))
    return RunView(
        namespace=namespace,
        name=name,
        uid=uid,
        generation=_number(metadata, "generation"),
        resource_version=text(metadata, "resourceVersion"),
        created=moment(metadata.get("creationTimestamp")) or EPOCH,
        deleting="deletionTimestamp" in metadata,
        labels=_texts(metadata, "labels"),
        annotations=_texts(metadata, "annotations"),
        spec=_object(run, "spec"),
        status=status,
        status_problems=problems,
    )


def labels_of(raw: Json) -> dict[str, str]:
    """The labels of any object."""
    return _texts(_object(raw, "metadata"), "labels")


def workload_view(workload: Json) -> WorkloadView | None:
    """A Job or RayJob with our labels; None when the labels are not as we write them."""
    metadata, spec, status = (_object(workload, part) for part in ("metadata", "spec", "status"))
    name, uid = text(metadata, "name"), text(metadata, "uid")
    labels = _texts(metadata, "labels")
    attempt = labels.get(ATTEMPT_LABEL, "")
    kind = workload.get("kind")
    if not (name and uid and labels.get(STEP_LABEL) and attempt.isdecimal() and len(attempt) < 10):
        return None
    if kind not in ("Job", "RayJob"):
        return None
    common: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "uid": uid,
        "owner_uid": controller_uid(metadata),
        "step": labels[STEP_LABEL],
        "attempt": int(attempt),
        "collect": labels.get(COLLECT_LABEL) == "true",
        "created": moment(metadata.get("creationTimestamp")) or EPOCH,
        "deleting": "deletionTimestamp" in metadata,
        "suspended": spec.get("suspend") is True,
        "started": moment(status.get("startTime")),
        "gpus": _gpus(metadata),
    }
    return WorkloadView(**common, **(_job(spec, status) if kind == "Job" else _ray_job(status)))


def _gpus(metadata: Json) -> int:
    """Of each pod, as the operator wrote it; none where somebody wrote anything else."""
    written = _texts(metadata, "annotations").get(GPUS_ANNOTATION, "")
    return int(written) if written.isdecimal() and len(written) < 4 else 0


def _job(spec: Json, status: Json) -> dict[str, Any]:
    phase, ending = _phase_of(status)
    return {
        "phase": phase,
        "reason": text(ending, "reason"),
        "message": text(ending, "message"),
        "size": _number(spec, "parallelism", 1),
        "active": _number(status, "active"),
        "ready": _number(status, "ready"),
        "failed": _number(status, "failed"),
        "terminating": _number(status, "terminating"),
        "keeps_policies": _keeps_policies(spec),
        "progress_port": _progress_port(spec),
    }


def _progress_port(spec: Json) -> int:
    """Where its pods say how far they are: on the network of a node an attempt has a port of its own."""
    containers = _objects(_object(_object(spec, "template"), "spec"), "containers")
    ports = (port for container in containers[:1] for port in _objects(container, "ports"))
    named = (_number(port, "containerPort") for port in ports if port.get("name") == "progress")
    return next((port for port in named if 0 < port < 1 << 16), PROGRESS_PORT)


def _phase_of(status: Json) -> tuple[JobPhase, Json]:
    true = [condition for condition in _objects(status, "conditions") if condition.get("status") == "True"]
    phases: tuple[tuple[JobPhase, tuple[str, ...]], ...] = (("Failed", FAILED), ("Complete", COMPLETE))
    for phase, types in phases:
        for condition in true:
            if condition.get("type") in types:
                return phase, condition
    return "Active", {}


def _keeps_policies(spec: Json) -> bool:
    """Every Job of ours has a podFailurePolicy; one that retries by index has a successPolicy too (workloads/)."""
    return "podFailurePolicy" in spec and ("successPolicy" in spec or "backoffLimitPerIndex" not in spec)


def _ray_job(status: Json) -> dict[str, Any]:
    """KubeRay has two enums that may disagree (kuberay#2314): either of them ends it, and a failure counts more."""
    deployment, job = text(status, "jobDeploymentStatus"), text(status, "jobStatus")
    phase: JobPhase = "Active"
    if deployment in ("Failed", "ValidationFailed") or job in ("FAILED", "STOPPED"):
        phase = "Failed"
    elif job == "SUCCEEDED" or deployment == "Complete":
        phase = "Complete"
    cluster = _object(status, "rayClusterStatus")
    head_runs = bool(text(_object(cluster, "head"), "podIP"))
    ready = _number(cluster, "readyWorkerReplicas") + (1 if head_runs else 0)
    # Through the apiserver's proxy (--use-kubernetes-proxy) KubeRay takes an error's word for the job's state.
    unheard = "jobStatusCheckFailureStartTime" in status or job not in RAY_JOB_STATES
    return {
        "phase": phase,
        "reason": text(status, "reason"),
        "message": text(status, "message"),
        "size": _number(cluster, "desiredWorkerReplicas") + 1,
        "active": ready,
        "ready": ready,
        "failed": _number(status, "failed"),
        "head_is_silent": deployment == "Running" and (unheard or not head_runs),
    }


def pod_view(pod: Json) -> PodView | None:
    """A pod of an attempt."""
    metadata, spec, status = (_object(pod, part) for part in ("metadata", "spec", "status"))
    name, uid = text(metadata, "name"), text(metadata, "uid")
    if not (name and uid):
        return None
    conditions = {text(each, "type"): each for each in _objects(status, "conditions")}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    step = next((each for each in _objects(status, "containerStatuses") if each.get("name") == STEP_CONTAINER), {})
    ended = _object(_object(step, "state"), "terminated") or _object(_object(step, "lastState"), "terminated")
    waiting = _waiting(status)
    exit_code = ended.get("exitCode")
    return PodView(
        name=name,
        uid=uid,
        index=_index(metadata),
        phase=text(status, "phase") or "Unknown",
        created=moment(metadata.get("creationTimestamp")) or EPOCH,
        deleted=moment(metadata.get("deletionTimestamp")),
        grace_seconds=_number(metadata, "deletionGracePeriodSeconds"),
        node=text(spec, "nodeName") or None,
        ip=text(status, "podIP") or None,
        ready=conditions.get("Ready", {}).get("status") == "True",
        scheduled_message=text(scheduled, "message") if scheduled.get("status") == "False" else "",
        disruption=text(disrupted, "reason") if disrupted.get("status") == "True" else "",
        waiting_reason=text(waiting, "reason"),
        waiting_message=text(waiting, "message"),
        exit_code=exit_code if _is_integer(exit_code) else None,
        ended=moment(ended.get("finishedAt")),
        exit_reason=text(ended, "reason"),
        termination_message=text(ended, "message"),
        status_reason=text(status, "reason"),
        status_message=text(status, "message"),
    )


def _waiting(status: Json) -> Json:
    """The first container that waits for more than its turn, initialisation first."""
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in _objects(status, field):
            waiting = _object(_object(container, "state"), "waiting")
            if waiting and text(waiting, "reason") not in ("PodInitializing", "ContainerCreating"):
                return waiting
    return {}


def _index(metadata: Json) -> int:
    labels = _texts(metadata, "labels")
    if RAY_NODE in labels:
        return 0 if labels[RAY_NODE] == "head" else 1
    value = labels.get(INDEX) or _texts(metadata, "annotations").get(INDEX) or "0"
    return int(value) if value.isdecimal() and len(value) < 10 else 0


def event_view(event: Json) -> EventView | None:
    """An Event of the core API, whichever API wrote it."""
    about, series = _object(event, "involvedObject"), _object(event, "series")
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        _object(event, "metadata").get("creationTimestamp"),
    )
    seen = next((found for found in map(moment, times) if found is not None), None)
    if seen is None or not text(event, "reason"):
        return None
    return EventView(
        about=f"{text(about, 'kind')}/{text(about, 'name')}",
        reason=text(event, "reason"),
        message=text(event, "message"),
        last_seen=seen,
    )


def claim_view(claim: Json) -> ClaimView | None:
    """A PersistentVolumeClaim."""
    name = text(_object(claim, "metadata"), "name")
    modes = _object(claim, "spec").get("accessModes")
    if not name:
        return None
    return ClaimView(name, tuple(mode for mode in modes if isinstance(mode, str)) if isinstance(modes, list) else ())


def queue_words(workload: Json) -> str:
    """What Kueue says of a Workload that it has not admitted; never empty."""
    conditions = _objects(_object(workload, "status"), "conditions")
    refused = [each for each in conditions if (each.get("type"), each.get("status")) == ("QuotaReserved", "False")]
    words = text(refused[0], "message") if refused else ""
    return words[:QUEUE_WORDS] or "Kueue has it in line"


def controller_uid(metadata: Json) -> str:
    """The uid of the controller among the owners; empty without one."""
    for owner in _objects(metadata, "ownerReferences"):
        if owner.get("controller") is True:
            return text(owner, "uid")
    return ""


def moment(value: Any) -> datetime | None:
    """A time of the API; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def text(parent: Json, field: str) -> str:
    """The text of a field; empty when there is none."""
    value = parent.get(field)
    return value if isinstance(value, str) else ""


def _object(parent: Json, field: str) -> Json:
    value = parent.get(field)
    return value if isinstance(value, dict) else {}


def _objects(parent: Json, field: str) -> list[Json]:
    value = parent.get(field)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(parent: Json, field: str) -> dict[str, str]:
    return {key: value for key, value in _object(parent, field).items() if isinstance(value, str)}


def _number(parent: Json, field: str, default: int = 0) -> int:
    value = parent.get(field)
    return value if _is_integer(value) else default


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
