"""A person may delete a pod of a run: the attempt is lost, and no retry is spent. What fails by itself is still counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_world import START, World

from selfalign_operator.reconcile.ending import failure_of
from selfalign_operator.views import PodView, WorkloadView

BY_SIGNAL = (75, 137, 143)
GRACE = 30


def pod(index: int, code: int | None, ended: float | None, told: float | None = None) -> PodView:
    """Rank `index`, whose step ended with that code at that second, and that somebody told to end at another."""
    return PodView(
        f"rank-{index}", f"u{index}", index, "Failed" if code else "Running", START,
        deleted=None if told is None else START + timedelta(seconds=told + GRACE), grace_seconds=GRACE,
        exit_code=code, exit_reason="Error" if code else "",
        ended=None if ended is None else START + timedelta(seconds=ended),
    )  # fmt: skip


def gang(size: int = 4) -> WorkloadView:
    return WorkloadView(
        "Job", "job", "u", "r", "i1-train", 1, False, START, False, False, "Failed", size=size,
        reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit",
    )  # fmt: skip


@given(
    st.integers(0, 3),
    st.sampled_from((None, *BY_SIGNAL)),
    st.lists(st.sampled_from([1, 75, 134, 143]), min_size=3, max_size=3),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
)
def test_a_gang_whose_rank_somebody_deleted_has_not_failed(
    victim: int, code: int | None, codes: list[int], ends: list[int]
) -> None:
    """The others stop with it, or break their connections; the Job's controller deletes whoever is left."""
    others = [index for index in range(4) if index != victim]
    pods = [pod(victim, code, None if code is None else 12, told=10)]
    pods += [pod(index, other, 10 + end) for index, other, end in zip(others, codes, ends, strict=True)]
    ending = failure_of(gang(), pods)
    assert (ending.reason, ending.counted, f"rank-{victim}" in ending.message) == ("Deleted", False, True)


@given(st.integers(0, 3), st.sampled_from([1, 75, 134, 137]), st.integers(0, 20), st.integers(0, 40))
def test_a_rank_that_fails_is_counted_though_the_controller_deletes_the_others(
    guilty: int, code: int, after: int, later: int
) -> None:
    others = [index for index in range(4) if index != guilty]
    pods = [pod(index, 75, 10 + after + later, told=10 + after) for index in others] + [pod(guilty, code, 10)]
    assert failure_of(gang(), pods).counted


@pytest.mark.parametrize("told", [11, 60])
def test_a_pod_that_had_failed_when_somebody_deleted_it_is_counted(told: float) -> None:
    assert failure_of(gang(1), [pod(0, 1, 10, told=told)]).counted
    assert failure_of(gang(1), [pod(0, 75, 10, told=told)]).counted


def test_a_wrong_configuration_and_memory_are_what_they_are() -> None:
    assert failure_of(gang(1), [pod(0, 64, 12, told=10)]).reason == "InvalidConfig"


def test_a_pod_that_was_deleted_spends_no_retry_though_nothing_of_it_is_left() -> None:
    world = World(spec=World().spec | {"failurePolicy": {"maxRetriesPerStep": 0}})
    job = world.until("i1-train")
    world.run(job)
    world.settle()
    world.pod(world.jobs[job.name], deleted=world.now + timedelta(seconds=GRACE), grace_seconds=GRACE)
    world.jobs[job.name] = replace(world.jobs[job.name], ready=0, terminating=1)
    world.settle()
    world.fail(world.jobs[job.name])
    world.lose_pods(job)
    world.settle()
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.failures, step.lost_attempts[-1].reason, step.deleted_pod) == (0, "Deleted", None)
    assert world.status.state == "Waiting"


def test_a_pod_that_was_replaced_excuses_no_later_failure() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    world.settle()
    world.pod(world.jobs[job.name], deleted=world.now + timedelta(seconds=GRACE), grace_seconds=GRACE)
    world.jobs[job.name] = replace(world.jobs[job.name], ready=0)
    world.settle()
    world.run(world.jobs[job.name])
    world.settle()
    world.fail(world.jobs[job.name])
    world.settle()
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.failures, step.lost_attempts[-1].reason) == (1, "StepFailed")


def test_pods_that_vanish_at_once_were_deleted_until_they_vanish_again_and_again() -> None:
    """`kubectl delete pod --force` leaves nothing to see; nor does what sweeps up every pod that has failed."""
    world = World(spec=World().spec | {"failurePolicy": {"maxRetriesPerStep": 0}})
    world.until("i1-train")
    counted = []
    for _ in range(4):
        (job,) = world.active()
        world.fail(job)
        world.lose_pods(job)
        world.settle()
        step = world.status.step("i1-train")
        assert step is not None
        counted.append((step.lost_attempts[-1].reason, step.failures))
        world.wait(3600)
        world.settle()
    assert counted == [("Deleted", 0)] * 3 + [("Deleted", 1)]
    assert world.status.state == "Failed"


# --- waiting is cheap ---------------------------------------------------------------------------------------------------


def unschedulable(world: World) -> Any:
    (job,) = world.active()
    world.jobs[job.name] = replace(job, active=1, started=job.started or world.now)
    words = "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."
    world.pod(job, phase="Pending", node=None, scheduled_message=words, created=world.now)


def test_300_runs_that_find_no_room_ask_for_less_than_a_list_a_second() -> None:
    """Each look at one is one list: of its pods, or of those that an earlier attempt left (test_process_observe.py)."""
    world = World()
    world.until("i1-generate")
    looks, began = 0, world.now
    while (world.now - began) < timedelta(days=1):
        if world.active():
            unschedulable(world)
        again = world.turn()
        assert again is not None
        looks += 1
        world.wait(max(again, 0.01))
    assert 300 * looks / (world.now - began).total_seconds() <= 1
    assert world.status.state == "Waiting"


def test_a_run_that_has_just_begun_is_looked_at_soon() -> None:
    world = World()
    world.until("i1-generate")
    unschedulable(world)
    assert world.turn() == 10
