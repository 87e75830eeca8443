"""How attempts are lost, judged and given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from reconcile_world import START, World, message, reason, summary

from selfalign_operator.views import PodView, ProgressView


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({"disruption": "EvictionByEvictionAPI", "exit_code": 143}, ("Disrupted", False)),
        ({"status_reason": "Evicted"}, ("Disrupted", False)),
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, ("OutOfMemory", True)),
        ({"exit_code": 75}, ("Stopped", True)),
        ({"exit_code": 1}, ("StepFailed", True)),
    ],
)
def test_how_an_attempt_was_lost(pod: dict[str, object], expected: tuple[str, bool]) -> None:
    world = World()
    job = world.until("i1-train")
    world.fail(job)
    world.pod(job, phase="Failed", **pod)
    world.turn()
    step = world.status.step("i1-train")
    assert step is not None
    lost = step.lost_attempts[-1]
    assert ((lost.reason, lost.counted), lost.node) == (expected, "node-1")


def test_an_index_that_its_job_has_tried_again_as_often_as_the_step_may_ends_the_run() -> None:
    world = World()
    job = world.until("i1-generate")
    world.fail(job)
    world.jobs[job.name] = replace(world.jobs[job.name], reason="MaxFailedIndexesExceeded")
    world.pod(job, phase="Failed", exit_code=1)
    world.settle()
    assert reason(world, "Failed") == ("True", "RetriesExhausted")


def test_an_attempt_that_waits_for_its_pods_says_nothing_new() -> None:
    world = World()
    world.until("i1-train")
    before = world.status
    assert before.step("i1-train").message == "i1-train starts: 0 of 1 pods run"  # type: ignore[union-attr]
    for _ in range(3):
        world.wait(40)
        world.turn()
    assert world.status == before


def test_without_its_pods_a_job_tells_by_its_condition_why_it_failed() -> None:
    world = World()
    job = world.until("i1-train")
    world.fail(job)
    said = "Container step for pod ns/x failed with exit code 64 matching FailJob rule at index 0"
    world.jobs[job.name] = replace(world.jobs[job.name], reason="PodFailurePolicy", message=said)
    world.lose_pods(job)
    world.settle()
    assert reason(world, "Failed") == ("True", "InvalidConfig")


def test_a_lost_termination_message_is_read_from_the_storage() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job)
    world.lose_pods(job)
    world.settle()
    assert world.made[-1] == "run-i1-generate-1-c"
    world.complete(world.active()[0])
    world.settle()
    assert world.active()[0].step == "i1-train"


def test_no_manifest_means_that_the_attempt_failed() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job)
    world.lose_pods(job)
    world.settle()
    world.fail(world.active()[0], 1)
    world.turn()
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("ResultMissing", 1)


def test_a_training_gang_that_finds_no_room_gives_its_gpus_back() -> None:
    world = World()
    job = world.until("i1-train")
    world.wait(1801)
    world.pod(
        job, phase="Pending", node=None, scheduled_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )
    world.turn()
    assert world.active() == []
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("GangNotPlaced", 0)
    assert "nvidia.com/gpu" in step.lost_attempts[-1].message


def test_progress_that_stands_still_is_given_up_and_counted() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    stands = ProgressView(10, 100, "records", "generate", 0.0, world.now, world.now)
    world.progress = stands
    world.turn()
    world.wait(1801)
    world.progress = replace(stands, read_at=world.now)
    world.turn()
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("Stalled", 1)
    assert world.active() == []


def test_progress_that_cannot_be_read_is_shown_with_its_age_and_kills_nothing() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    world.progress = ProgressView(10, 100, "records", "generate", 1.0, world.now, world.now)
    world.turn()
    world.wait(4000)
    world.turn()
    assert world.active() == [world.jobs[job.name]]
    assert "4000 s ago" in message(world)


def test_a_lost_node_is_named_and_the_run_goes_on() -> None:
    world = World()
    job = world.until("i1-train")
    world.run(job)
    world.pod(job, deleted=world.now)
    world.wait(61)
    world.turn()
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.lost_attempts[-1].node, step.failures) == ("NodeLost", "node-1", 0)
    world.wait(11)
    world.settle()
    assert world.made[-1] == "run-i1-train-2"


def test_pods_still_within_their_grace_period_are_not_lost() -> None:
    world = World()
    job = world.until("i1-train")
    world.run(job)
    world.pods[job.name] = (PodView("p", "u", 0, "Running", START, deleted=world.now + timedelta(seconds=30)),)
    world.wait(60)
    world.turn()
    assert world.active() != []


def test_a_suspension_between_a_creation_and_the_status_that_says_so_stops_what_was_made() -> None:
    world = World()
    accept = world.until("accept")
    world.complete(accept)
    world.turn(cut="created")
    assert [job.step for job in world.active()] == ["i1-generate"]
    world.change(suspend=True)
    world.settle()
    assert world.active() == []
    assert world.status.state == "Suspended"
    assert {step.name: (step.state, step.attempts) for step in world.status.steps[:2]} == {
        "accept": ("Succeeded", 1),
        "i1-generate": ("Pending", 1),
    }


def test_an_attempt_that_ended_before_the_status_knew_of_it_is_judged_by_its_own_pods() -> None:
    world = World()
    first = world.until("i1-train")
    world.run(first)
    world.settle()
    world.fail(first)
    world.wait(700)
    world.turn()
    world.wait(700)
    world.turn(cut="created")
    (second,) = world.active()
    world.complete(second)
    world.settle()
    assert world.made[-1].startswith("run-i1-evaluate")
    assert not any(name.endswith("-c") for name in world.made)


NO_NODE = {"phase": "Pending", "node": None, "scheduled_message": "0/2 nodes: Insufficient nvidia.com/gpu."}
NO_IMAGE = {"phase": "Pending", "waiting_reason": "ImagePullBackOff", "waiting_message": "no such tag"}
NO_CONFIG = {"phase": "Pending", "waiting_reason": "CreateContainerConfigError", "waiting_message": "no such key"}


@pytest.mark.parametrize("step", ["accept", "i1-generate", "i1-train", "i1-evaluate"])
@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (NO_NODE, ("GangNotPlaced", False)),
        (NO_IMAGE, ("NotStarted", True)),
        (NO_CONFIG, ("NotStarted", True)),
        (None, ("GangNotPlaced", False)),  # no pod at all
    ],
)
def test_no_step_waits_for_ever(step: str, pod: dict[str, object] | None, expected: tuple[str, bool]) -> None:
    world = World()
    job = world.until(step)
    if pod is not None:
        world.pod(job, **pod)
    world.wait(1799)
    world.turn()
    assert world.active() == [world.jobs[job.name]]
    world.wait(2)
    world.turn()
    assert world.active() == []
    found = world.status.step(step)
    assert found is not None
    assert (found.lost_attempts[-1].reason, found.lost_attempts[-1].counted) == expected


def test_an_image_that_never_comes_ends_the_run_after_its_retries() -> None:
    world = World()
    world.until("i1-generate")
    for _ in range(20):
        for job in world.active():
            world.pod(job, **NO_IMAGE)
        world.wait(1900)
        world.turn()
    assert reason(world, "Failed") == ("True", "RetriesExhausted")
    assert "no such tag" in message(world, "Failed")


def test_a_generation_gang_without_its_head_gives_its_gpus_back_and_with_it_goes_on() -> None:
    world = World()
    job = world.until("i1-generate")
    world.jobs[job.name] = replace(job, size=2, ready=2, active=2, started=world.now)
    world.turn()
    world.wait(7200)
    helper = PodView(f"{job.name}-1-x", "p1", 1, "Running", world.now, ready=True)
    head = PodView(f"{job.name}-0-x", "p0", 0, "Pending", world.now)
    world.jobs[job.name] = replace(world.jobs[job.name], ready=1)
    world.pods[job.name] = (head, helper)
    world.turn()
    world.wait(1700)
    world.pods[job.name] = (replace(head, phase="Running"), replace(helper, phase="Pending"))
    world.turn()  # the head is back: its helper may be late
    world.pods[job.name] = (head, helper)
    world.wait(1700)
    world.turn()
    assert len(world.active()) == 1
    world.wait(1801)
    world.turn()
    step = world.status.step("i1-generate")
    assert step is not None and world.active() == []
    assert step.lost_attempts[-1].reason == "GangNotPlaced"


@pytest.mark.parametrize("step", ["accept", "i1-generate", "i1-train", "i1-evaluate"])
@pytest.mark.parametrize(("code", "expected"), [(0, "Succeeded"), (1, "Pending"), (64, "Failed")])
def test_a_step_has_ended_though_a_container_beside_it_lives_on(step: str, code: int, expected: str) -> None:
    world = World()
    job = world.until(step)
    world.run(job)
    said = summary(step) if code == 0 else '{"error": "it broke"}'
    world.jobs[job.name] = replace(world.jobs[job.name], ready=0)
    world.pod(job, exit_code=code, termination_message=said)
    world.turn()
    found = world.status.step(step)
    assert found is not None and found.state == expected
    assert job.name not in world.jobs


def test_the_result_of_a_step_whose_pod_lives_on_and_says_nothing_is_read_from_the_storage() -> None:
    world = World()
    job = world.until("i1-train")
    world.pod(job, exit_code=0, termination_message="")
    world.turn()
    (collects,) = world.active()
    assert collects.collect and job.name not in world.jobs


def left(deleted: bool, seconds_ago: float, world: World) -> PodView:
    when = world.now - timedelta(seconds=seconds_ago)
    return PodView("run-i1-generate-1-0-x", "p", 0, "Running", START, deleted=when if deleted else None)


@pytest.mark.parametrize(
    ("deleted", "seconds", "begins"),
    [(True, 1, False), (True, 59, False), (True, 61, True), (False, 1, False), (False, 9000, False)],
)
def test_an_attempt_begins_when_the_pods_of_the_last_one_are_gone_or_their_node_is_lost(
    deleted: bool, seconds: float, begins: bool
) -> None:
    world = World()
    job = world.until("i1-generate")
    world.fail(job)
    world.turn()
    world.wait(3600)
    world.extra = {"left": (left(deleted, seconds, world),)}
    world.turn()
    assert bool(world.active()) == begins
    if not begins:
        assert "run-i1-generate-1-0-x" in message(world)
    world.extra = {}
    world.turn()
    assert len(world.active()) == 1


def test_a_run_is_suspended_when_its_pods_are_gone() -> None:
    world = World()
    world.run(world.until("i1-train"))
    world.change(suspend=True)
    world.turn()
    assert reason(world, "Suspended") == ("False", "Suspending")
    world.extra = {"left": (left(True, 1, world),)}
    world.turn()
    assert reason(world, "Suspended") == ("False", "Suspending")
    world.extra = {}
    world.turn()
    assert reason(world, "Suspended") == ("True", "SpecSuspended")
    assert world.events.count("Suspended") == 1
