"""Labels, annotations and owner of what is made for a run."""

from __future__ import annotations

from selfalign_api.run import GROUP, VERSION
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.views import (
    ATTEMPT_LABEL,
    COLLECT_LABEL,
    GPUS_ANNOTATION,
    QUEUE_LABEL,
    RUN_ANNOTATION,
    RUN_LABEL,
    STEP_LABEL,
    UID_LABEL,
    Manifest,
)

KUEUE = "kueue.x-k8s.io/"
LABEL_MAX = 63  # characters of a label's value
NAME_LABEL = "app.kubernetes.io/name"


def run_labels(effective: EffectiveRun) -> dict[str, str]:
    """Labels of everything that is made for a run: its name, and those of its own that its profile carries on."""
    return propagated_labels(effective) | {
        NAME_LABEL: "selfalign",
        "app.kubernetes.io/managed-by": "selfalign-operator",
        RUN_LABEL: effective.name[:LABEL_MAX].rstrip("-."),
        UID_LABEL: effective.uid,
    }


def propagated_labels(effective: EffectiveRun) -> dict[str, str]:
    """The run's labels that the profile names, whole or by the prefix before their slash."""
    names = effective.platform.propagate_labels
    whole, prefixes = set(names), tuple(name for name in names if name.endswith("/"))
    return {name: value for name, value in effective.labels.items() if name in whole or name.startswith(prefixes)}


def attempt_labels(effective: EffectiveRun, attempt: Attempt) -> dict[str, str]:
    """Labels of an attempt's workload and of its pods."""
    labels = run_labels(effective) | {STEP_LABEL: attempt.step, ATTEMPT_LABEL: str(attempt.number)}
    return labels | {COLLECT_LABEL: "true"} if attempt.collect else labels


def run_annotations(effective: EffectiveRun) -> dict[str, str]:
    """Annotations of everything that is made for a run."""
    return {RUN_ANNOTATION: effective.name}


def object_metadata(effective: EffectiveRun, name: str) -> Manifest:
    """Metadata of one of a run's objects: it goes when the run goes."""
    return {
        "name": name,
        "namespace": effective.namespace,
        "labels": run_labels(effective),
        "annotations": run_annotations(effective),
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "SelfAlignmentRun",
                "name": effective.name,
                "uid": effective.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def workload_metadata(effective: EffectiveRun, attempt: Attempt, name: str, gpus: int) -> Manifest:
    """Metadata of an attempt's workload, with what Kueue reads there. `gpus`: of each pod, for the metrics."""
    labels = attempt_labels(effective, attempt) | kueue_labels(effective)
    annotations = run_annotations(effective) | {GPUS_ANNOTATION: str(gpus)}
    return object_metadata(effective, name) | {"labels": labels, "annotations": annotations}


def queue_of(effective: EffectiveRun) -> str | None:
    """Kueue's LocalQueue of every workload, from compute or from the run's own label; None: no queue."""
    named = effective.spec.compute.queue_name if effective.spec.compute is not None else None
    return named or effective.labels.get(QUEUE_LABEL)


def suspended(effective: EffectiveRun) -> Manifest:
    """With a queue a workload is made suspended, for Kueue to start it; nobody else writes that field afterwards."""
    return {"suspend": True} if queue_of(effective) is not None else {}


def kueue_labels(effective: EffectiveRun) -> dict[str, str]:
    """The queue, and the run's own labels for Kueue (such as its priority class)."""
    labels = {name: value for name, value in effective.labels.items() if name.startswith(KUEUE)}
    queue = queue_of(effective)
    return labels | ({QUEUE_LABEL: queue} if queue is not None else {})


def kueue_annotations(effective: EffectiveRun) -> dict[str, str]:
    """The run's annotations for Kueue: it reads a topology from the pod template."""
    return {name: value for name, value in effective.annotations.items() if name.startswith(KUEUE)}
