"""What keeps an attempt from running, in words that say what to do: from its pods, its workload and their events."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign_operator.reasons import EventReason
from selfalign_operator.views import EventView, Observed, PodView, WorkloadView

__all__ = ["LOST_AFTER_SECONDS", "Trouble", "is_lost", "lost_pod", "trouble_of"]

LOST_AFTER_SECONDS = 60.0  # a pod still Terminating so long after its deletionTimestamp is on a lost node
PULL_REASONS = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True)
class Trouble:
    """Why an attempt does not run."""

    reason: EventReason
    message: str


def lost_pod(observed: Observed) -> PodView | None:
    """A pod that has not gone long after it should have: nobody on its node answers."""
    return next((pod for pod in observed.pods if is_lost(pod, observed)), None)


def is_lost(pod: PodView, observed: Observed) -> bool:
    """Whether it should have gone long ago."""
    return pod.deleted is not None and (observed.now - pod.deleted).total_seconds() > LOST_AFTER_SECONDS


def trouble_of(workload: WorkloadView, observed: Observed) -> Trouble | None:
    """The first thing that is wrong with an attempt that is under way; None when there is nothing."""
    for pod in observed.pods:
        for look in (_image, _container, _memory, _unschedulable):
            if (found := look(pod)) is not None:
                return found
    for event in sorted(observed.events, key=lambda event: event.last_seen, reverse=True):
        if (found := _mount(event) or _no_pods(event, workload)) is not None:
            return found
    return None


def _image(pod: PodView) -> Trouble | None:
    if pod.waiting_reason not in PULL_REASONS:
        return None
    message = (
        f"pod {pod.name} gets no image ({pod.waiting_reason}: {pod.waiting_message}); check the image's name under "
        "spec.compute, or the profile's, and imagePullSecrets in podTemplate"
    )
    return Trouble("ImagePullFailed", message)


def _container(pod: PodView) -> Trouble | None:
    if pod.waiting_reason not in CONFIG_REASONS:
        return None
    if "secret" in pod.waiting_message.lower() and "not found" in pod.waiting_message:
        message = (
            f"pod {pod.name}: {pod.waiting_message}; create that Secret in the run's namespace, or mend credentials"
        )
        return Trouble("SecretNotFound", message)
    return Trouble("PodRejected", f"pod {pod.name} cannot start ({pod.waiting_reason}): {pod.waiting_message}")


def _memory(pod: PodView) -> Trouble | None:
    """A container that the Job will try again (one index of a generation gang)."""
    if pod.exit_reason != "OOMKilled":
        return None
    message = (
        f"pod {pod.name} used more memory than it may (OOMKilled); raise resources.limits.memory under spec.compute"
    )
    return Trouble("OutOfMemory", message)


def _unschedulable(pod: PodView) -> Trouble | None:
    if pod.phase != "Pending" or pod.node is not None or not pod.scheduled_message:
        return None
    lowered = pod.scheduled_message.lower()
    if "persistentvolumeclaim" in lowered and "not found" in lowered:
        message = f"pod {pod.name}: {pod.scheduled_message}; create that claim in the run's namespace"
        return Trouble("ClaimNotFound", message)
    message = f"pod {pod.name} finds no node: {pod.scheduled_message}; free what it lacks, or suspend the run and ask for less"
    return Trouble("Unschedulable", message)


def _mount(event: EventView) -> Trouble | None:
    if event.reason not in ("FailedMount", "FailedAttachVolume"):
        return None
    if "not found" in event.message and "secret" in event.message:
        return Trouble("SecretNotFound", f"{event.about}: {event.message}; create that Secret in the run's namespace")
    message = f"{event.about} cannot mount its volumes: {event.message}"
    return Trouble("StorageUnavailable", message)


def _no_pods(event: EventView, workload: WorkloadView) -> Trouble | None:
    """The Job controller could not make a pod."""
    if event.reason != "FailedCreate":
        return None
    said = f"{workload.kind} {workload.name} gets no pods: {event.message}"
    if "exceeded quota" in event.message:
        return Trouble("QuotaExceeded", f"{said}; raise the quota, or wait until others end")
    return Trouble("PodRejected", f"{said}; mend spec.compute.podTemplate, or what refuses the pod")
