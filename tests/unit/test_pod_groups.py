"""Gangs by a scheduler of their own: the profile names it, pods and PodGroups follow."""

from __future__ import annotations

from typing import Any

import pytest
from effective_runs import ATTEMPTS, EVALUATE, GENERATE, TRAIN, effective
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile, OperatorConfig
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import run_objects

WAYS = {
    "Coscheduling": ("scheduling.x-k8s.io/v1alpha1", "scheduler-plugins-scheduler"),
    "Volcano": ("scheduling.volcano.sh/v1beta1", "volcano"),
}
SIZES = st.integers(1, 4)


def by(type: str, **fields: Any) -> OperatorConfig:
    """A platform whose gangs are scheduled so."""
    profile = parse(ClusterProfile, {"gangScheduling": {"type": type} | fields}, "profile")
    return effective().config.model_copy(update={"profiles": {"default": profile}})


def groups(run: EffectiveRun) -> list[Manifest]:
    return [each for each in run_objects(run, "t") if each["kind"] == "PodGroup"]


def templates(run: EffectiveRun, attempt: Attempt) -> list[tuple[Manifest, int]]:
    """Each template of an attempt's pods, and how many pods it has."""
    spec = attempt_workload(run, attempt)["spec"]
    if "rayClusterSpec" not in spec:
        return [(spec["template"], spec["completions"])]
    cluster = spec["rayClusterSpec"]
    engines = [(group["template"], group["replicas"]) for group in cluster.get("workerGroupSpecs", ())]
    return [(cluster["headGroupSpec"]["template"], 1), *engines]


def group_of(template: Manifest) -> str | None:
    metadata = template["metadata"]
    named = metadata["labels"].get("scheduling.x-k8s.io/pod-group")
    found: str | None = named or metadata["annotations"].get("scheduling.k8s.io/group-name")
    return found


@given(st.sampled_from(sorted(WAYS)), st.sampled_from(["Gang", "RayJob"]), SIZES, SIZES, SIZES)
def test_the_pods_of_a_gang_are_as_many_as_the_members_of_their_group(
    type: str, runtime: str, engines: int, nodes: int, judges: int
) -> None:
    compute = {
        "generation": {"runtime": runtime, "replicas": engines},
        "training": {"nodes": nodes},
        "evaluation": {"replicas": judges},
    }
    run = effective({"compute": compute}, by(type))
    version, scheduler = WAYS[type]
    members = {each["metadata"]["name"]: each["spec"]["minMember"] for each in groups(run)}
    assert {each["apiVersion"] for each in groups(run)} <= {version}
    for attempt in (GENERATE, TRAIN, EVALUATE):
        found = templates(run, attempt)
        size = sum(pods for _, pods in found)
        assert {each["spec"]["schedulerName"] for each, _ in found} == {scheduler}
        (group,) = {group_of(each) for each, _ in found}
        assert group is None if size == 1 else members[group or ""] == size


@pytest.mark.parametrize("attempt", [each for each in ATTEMPTS if each not in (GENERATE, TRAIN, EVALUATE)])
def test_small_pods_are_left_to_the_clusters_own_scheduler(attempt: Attempt) -> None:
    run = effective({"compute": {"training": {"nodes": 2}}}, by("Volcano"))
    ((template, _),) = templates(run, attempt)
    assert "schedulerName" not in template["spec"]
    assert group_of(template) is None


def test_without_gang_scheduling_nothing_names_a_scheduler_or_a_group() -> None:
    run = effective({"compute": {"training": {"nodes": 2}}})
    assert groups(run) == []
    assert all("schedulerName" not in each["spec"] for a in ATTEMPTS for each, _ in templates(run, a))


def test_a_profile_may_name_its_scheduler_and_volcanos_queue_and_a_run_another_scheduler() -> None:
    config, nodes = by("Volcano", schedulerName="volcano-2", queue="research"), {"training": {"nodes": 2}}
    run = effective({"compute": nodes}, config)
    assert [each["spec"] for each in groups(run)] == [{"minMember": 2, "queue": "research"}]
    assert templates(run, TRAIN)[0][0]["spec"]["schedulerName"] == "volcano-2"
    own = effective({"compute": nodes | {"podTemplate": {"spec": {"schedulerName": "own"}}}}, config)
    assert templates(own, TRAIN)[0][0]["spec"]["schedulerName"] == "own"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "Coscheduling", "queue": "a"}, "queue is Volcano's; write type: Volcano, or remove queue"),
        ({"type": "volcano"}, "did you mean Volcano"),
        ({"queue": "a"}, "is missing"),
        ({"type": "Volcano", "schedulerName": ""}, "must not be empty"),
        ({"type": "Volcano", "minMember": 2}, "no such field"),
    ],
)
def test_a_profile_with_a_wrong_gang_scheduling_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(ClusterProfile, {"gangScheduling": fields}, "profile")
