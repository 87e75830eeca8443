"""Gangs by a scheduler that starts all pods of a group or none: scheduler-plugins' coscheduling, or Volcano.

Checked against scheduler-plugins 0.34 (a label names the group) and Volcano 1.13 (an annotation does; a pod without one gets a
group of its own). A PodGroup without pods holds nothing in either: the attempts of a run take one after another the same.
"""

from __future__ import annotations

from selfalign_api.operator_config import GangScheduling
from selfalign_operator.effective import EffectiveRun
from selfalign_operator.names import pod_group_name
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.metadata import object_metadata

API_VERSION = {"Coscheduling": "scheduling.x-k8s.io/v1alpha1", "Volcano": "scheduling.volcano.sh/v1beta1"}
SCHEDULER = {"Coscheduling": "scheduler-plugins-scheduler", "Volcano": "volcano"}  # as their charts install them
LABEL = "scheduling.x-k8s.io/pod-group"
ANNOTATION = "scheduling.k8s.io/group-name"


def pod_groups(effective: EffectiveRun) -> tuple[Manifest, ...]:
    """One for each size that a gang of the run has; none where its profile leaves gangs to the default scheduler."""
    gangs, means = effective.platform.gang_scheduling, effective.means
    if gangs is None:
        return ()
    sizes = {means.generation.pods, means.training.nodes, means.evaluation.pods}
    return tuple(_pod_group(effective, gangs, size) for size in sorted(sizes) if size > 1)


def in_group(effective: EffectiveRun, template: Manifest, size: int) -> Manifest:
    """The template of pods with an engine or a rank, for the profile's scheduler, of a gang in its group."""
    gangs = effective.platform.gang_scheduling
    if gangs is None:
        return template
    metadata, name = template["metadata"], pod_group_name(effective.name, effective.uid, size)
    if size > 1 and gangs.type == "Coscheduling":
        metadata = metadata | {"labels": metadata["labels"] | {LABEL: name}}
    elif size > 1:
        metadata = metadata | {"annotations": metadata["annotations"] | {ANNOTATION: name}}
    spec = template["spec"] | {"schedulerName": gangs.scheduler_name or SCHEDULER[gangs.type]}
    return template | {"metadata": metadata, "spec": spec}


def _pod_group(effective: EffectiveRun, gangs: GangScheduling, size: int) -> Manifest:
    queue = {"queue": gangs.queue} if gangs.queue is not None else {}
    return {
        "apiVersion": API_VERSION[gangs.type],
        "kind": "PodGroup",
        "metadata": object_metadata(effective, pod_group_name(effective.name, effective.uid, size)),
        "spec": {"minMember": size, **queue},
    }
