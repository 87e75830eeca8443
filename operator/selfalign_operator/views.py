"""What the operator reads of the objects in the cluster: small, immutable views, made from JSON in one place each.

A cache of thousands of runs keeps these, never whole objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from selfalign_api.status import Status
from selfalign_operator.effective import Frozen

Manifest = dict[str, Any]  # a Kubernetes object as JSON

RUN_LABEL = "selfalign.dev/run"  # the run's name; the annotation has all of a long one
UID_LABEL = "selfalign.dev/run-uid"
STEP_LABEL = "selfalign.dev/step"
ATTEMPT_LABEL = "selfalign.dev/attempt"
COLLECT_LABEL = "selfalign.dev/collect"  # "true" on the Job that reads the result of an attempt whose pods are gone
RUN_ANNOTATION = "selfalign.dev/run"  # a label's value is shorter than a name may be
GPUS_ANNOTATION = "selfalign.dev/gpus"  # of a workload: GPUs of each of its pods
RETRY_ANNOTATION = "selfalign.dev/retry"
PROCEED_ANNOTATION = "selfalign.dev/proceed"  # names the step before which a run is held
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PROGRESS_PORT = 8080  # of /progress and /metrics, in a network of the pod's own
ASK_KUEUE_SECONDS = 10.0  # after which Kueue is asked why a Job waits


@dataclass(frozen=True)
class RunView:
    """A SelfAlignmentRun. `spec` is as it stands in the object: it may be of another version, or wrong."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleting: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Status
    status_problems: tuple[str, ...] = ()  # status fields that were not readable and are computed again
    namespace_labels: Mapping[str, str] | None = None  # read where profiles choose by them; None: they may not be read

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


JobPhase = Literal["Active", "Complete", "Failed"]


@dataclass(frozen=True)
class WorkloadView:
    """A Job or RayJob of ours: one attempt of one step.

    `phase` is Complete from SuccessCriteriaMet or Complete on, Failed from FailureTarget or Failed on: pods may still end.
    """

    kind: Literal["Job", "RayJob"]
    name: str
    uid: str
    owner_uid: str  # of its controller reference; not the run's: it is not ours, whatever its labels say
    step: str
    attempt: int
    collect: bool
    created: datetime
    deleting: bool
    suspended: bool  # spec.suspend: Kueue, or a person, holds it
    phase: JobPhase
    started: datetime | None = None  # status.startTime, set anew when a suspended Job is resumed
    reason: str = ""  # of the condition that ended it, such as PodFailurePolicy, BackoffLimitExceeded, DeadlineExceeded
    message: str = ""
    size: int = 1  # pods wanted at once
    gpus: int = 0  # of each pod
    progress_port: int = PROGRESS_PORT
    active: int = 0
    ready: int = 0
    failed: int = 0
    terminating: int = 0  # pods that are being deleted and have not gone
    keeps_policies: bool = True  # False: the apiserver dropped podFailurePolicy or successPolicy (too old)
    head_is_silent: bool = False  # of a RayJob that runs: KubeRay gets no answer of Ray's head


@dataclass(frozen=True)
class PodView:
    """A pod of the newest attempt."""

    name: str
    uid: str
    index: int  # completion index; 0 is Ray's head and driver, or rank 0's node; KubeRay's workers all have 1
    phase: str  # Pending, Running, Succeeded, Failed, Unknown
    created: datetime
    deleted: datetime | None = None  # deletionTimestamp
    grace_seconds: int = 0  # deletionGracePeriodSeconds
    node: str | None = None
    ip: str | None = None
    ready: bool = False
    scheduled_message: str = ""  # of PodScheduled=False: which resource is short
    disruption: str = ""  # reason of the condition DisruptionTarget
    waiting_reason: str = ""  # of the container that waits: ImagePullBackOff, CreateContainerConfigError, …
    waiting_message: str = ""
    exit_code: int | None = None  # of the container `step`
    ended: datetime | None = None  # when that container did
    exit_reason: str = ""  # OOMKilled, Error, Completed
    termination_message: str = ""
    status_reason: str = ""  # pod.status.reason: Evicted, NodeLost, UnexpectedAdmissionError
    status_message: str = ""


@dataclass(frozen=True)
class EventView:
    """A warning event of a workload or a pod: what stands in no status (FailedCreate, FailedMount, quota, admission)."""

    about: str  # kind/name
    reason: str
    message: str
    last_seen: datetime


@dataclass(frozen=True)
class ClaimView:
    """A PersistentVolumeClaim."""

    name: str
    access_modes: tuple[str, ...]


@dataclass(frozen=True)
class ProgressView:
    """The last `/progress` of index 0 that could be read, and when (it may be old: its age is shown)."""

    done: int
    total: int
    unit: str
    phase: str
    per_second: float | None
    read_at: datetime
    changed_at: datetime  # when `done` (or the phase) last changed: what progressDeadlineSeconds counts from


@dataclass(frozen=True)
class Refusal:
    """A manifest that the apiserver did not take, or whose name somebody else's object has."""

    manifest: Manifest
    code: int  # HTTP: 409 a foreign object, 422, 400, 413 invalid, 403 forbidden (quota, admission, RBAC), 404 no such kind
    message: str


@dataclass(frozen=True)
class Observed:
    """A run and all that counts for it, at one moment."""

    run: RunView
    now: datetime
    workloads: tuple[WorkloadView, ...] = ()
    pods: tuple[PodView, ...] = ()  # of the newest attempt, listed when they matter
    left: tuple[PodView, ...] = ()  # pods of the step's earlier attempts that live on, listed between two attempts
    events: tuple[EventView, ...] = ()  # of its workload and pods, listed when something is missing
    frozen: Frozen | None = None  # the ConfigMap that status.plan names; None: there is none yet, or it is lost
    not_frozen: str = ""  # what became of a lost one: "is gone", "was written by a newer operator"
    claims: Mapping[str, ClaimView | None] = field(
        default_factory=dict
    )  # looked up before the first Job; None: missing
    rayjob_installed: bool = True
    kueue_says: str | None = None  # why a queued Job waits; empty: Kueue knows nothing of it; None: not asked
    progress: ProgressView | None = None
    progress_unread: bool = False  # index 0 has not answered for several tries
    refusals: tuple[Refusal, ...] = ()  # what the last try to apply met
