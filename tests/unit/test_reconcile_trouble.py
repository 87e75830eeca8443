"""What keeps a run from going on, and the words for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reconcile_world import START, World, message, reason

from selfalign_operator.views import EventView, Refusal

NO_IMAGE = {"phase": "Pending", "waiting_reason": "ImagePullBackOff", "waiting_message": "no such tag"}
NO_SECRET = {
    "phase": "Pending",
    "waiting_reason": "CreateContainerConfigError",
    "waiting_message": 'secret "hf" not found',
}
TROUBLES = [
    (
        {"phase": "Pending", "node": None, "scheduled_message": "0/3 nodes: Insufficient memory."},
        "Unschedulable",
        "memory",
    ),
    (NO_IMAGE, "ImagePullFailed", "no such tag"),
    (NO_SECRET, "PodRejected", "hf"),
    ({"phase": "Failed", "exit_reason": "OOMKilled", "exit_code": 137}, "OutOfMemory", "resources.limits.memory"),
]


@pytest.mark.parametrize(("pod", "expected", "word"), TROUBLES)
def test_trouble_of_a_pod_is_said_with_what_to_do(pod: dict[str, object], expected: str, word: str) -> None:
    world = World()
    job = world.until("i1-generate")
    world.pod(job, **pod)
    world.turn()
    assert reason(world, "Progressing") == ("False", expected)
    assert word in message(world)


@pytest.mark.parametrize(
    ("reason_", "said", "expected"),
    [
        ("FailedCreate", 'pods "x" is forbidden: exceeded quota: gpus', "QuotaExceeded"),
        ("FailedCreate", "admission webhook denied the request", "PodRejected"),
        ("FailedMount", "MountVolume.SetUp failed for volume", "StorageUnavailable"),
    ],
)
def test_trouble_that_only_events_tell(reason_: str, said: str, expected: str) -> None:
    world = World()
    world.until("i1-generate")
    world.extra = {"events": (EventView("Job/x", reason_, said, START),)}
    world.turn()
    assert reason(world, "Progressing") == ("False", expected)
    assert said in message(world)


def test_a_trouble_is_told_once_and_its_end_is_seen() -> None:
    world = World()
    job = world.until("i1-generate")
    world.pod(job, **NO_IMAGE)
    for _ in range(3):
        world.turn()
    assert world.events.count("ImagePullFailed") == 1
    world.run(job)
    world.turn()
    assert reason(world, "Progressing")[0] == "True"


def test_a_name_that_somebody_else_has_is_a_conflict_not_a_crash() -> None:
    world = World()
    manifest = {"kind": "Job", "metadata": {"name": "run-accept-1"}}
    world.extra = {"refusals": (Refusal(manifest, 409, "already exists"),)}
    world.turn()
    assert reason(world, "Accepted") == ("False", "NameConflict")
    assert world.status.steps[0].attempts == 0


def test_a_pod_template_that_the_cluster_refuses_is_an_invalid_spec() -> None:
    world = World()
    world.extra = {"refusals": (Refusal({"kind": "Job", "metadata": {"name": "x"}}, 422, "spec.containers[0].ports"),)}
    world.turn()
    assert reason(world, "Accepted") == ("False", "InvalidSpec")
    assert "spec.containers[0].ports" in message(world, "Accepted")


def test_a_workload_of_another_object_with_our_labels_is_left_alone() -> None:
    world = World()
    job = world.until("i1-generate")
    foreign = replace(job, name="foreign", uid="other", owner_uid="somebody", attempt=7)
    world.jobs["foreign"] = foreign
    world.complete(job)
    world.settle()
    assert world.jobs["foreign"] == foreign
    step = world.status.step("i1-generate")
    assert step is not None
    assert step.attempts == 1


def test_an_invalid_spec_is_said_in_our_words_and_mended_by_a_valid_one() -> None:
    world = World(spec={"recipe": "sao"})
    world.turn()
    assert reason(world, "Accepted") == ("False", "InvalidSpec")
    assert "spec.model" in message(world, "Accepted")
    world.spec = World().spec
    world.settle()
    assert world.made == ["run-accept-1"]


def test_an_old_cluster_that_drops_our_policies_is_named() -> None:
    world = World()
    world.settle()
    world.jobs["run-accept-1"] = replace(world.active()[0], keeps_policies=False)
    world.turn()
    assert reason(world, "Accepted") == ("False", "UnsupportedKubernetes")
    for _ in range(5):
        world.wait(1000)
        world.turn()
    assert (world.made, world.active()) == (["run-accept-1"], [])
    assert reason(world, "Failed") == ("True", "WorkloadRejected")
