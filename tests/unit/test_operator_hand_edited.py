"""What people write by hand into statuses and children stops no run."""

from __future__ import annotations

import asyncio

import pytest
from reconcile_world import UID, World

from selfalign_api.status import MAX_ATTEMPTS, read_status
from selfalign_operator.kube.client import Kube
from selfalign_operator.kube.resources import JOB
from selfalign_operator.views import WorkloadView


def test_a_next_attempt_in_a_thousand_years_is_made_now() -> None:
    world = World()
    job = world.until("i1-generate")
    world.fail(job)
    world.settle()
    steps = tuple(
        step.model_copy(update={"next_attempt_time": "3026-01-01T00:00:00Z"}) if step.name == job.step else step
        for step in world.status.steps
    )
    world.status = world.status.model_copy(update={"steps": steps})
    world.settle()
    assert [job.attempt for job in world.active()] == [2]


def test_a_job_of_an_attempt_that_nobody_made_is_not_followed_and_holds_nothing_up() -> None:
    world = World()
    world.foreign = (
        WorkloadView("Job", "claims", "u", UID, "i1-generate", 999_999_999, False, world.now, False, False, "Active"),
    )
    job = world.until("i1-generate")
    assert job.attempt == 1
    world.complete(job)
    world.settle()
    assert [job.step for job in world.active()] == ["i1-train"]


@pytest.mark.parametrize("number", [2**63 - 1, 2**31, MAX_ATTEMPTS + 1, -1])
def test_a_number_of_attempts_that_nobody_made_is_counted_anew(number: int) -> None:
    step = {"name": "accept", "kind": "accept", "attempts": number}
    status, problems = read_status({"steps": [step]})
    assert status.steps[0].attempts == 0
    assert problems == ("status.steps[accept].attempts",)


@pytest.mark.parametrize("name", ["", "..", "../../../../api/v1/namespaces/x/secrets/y", "a/b", "a?b=c", "A", "a#"])
def test_a_name_that_no_object_has_is_asked_for_nowhere(name: str) -> None:
    class NoConnection:
        async def call(self, *_: object, **__: object) -> bytes:
            raise AssertionError("a call")

    kube = Kube(NoConnection(), lambda: None)  # type: ignore[arg-type]
    assert asyncio.run(kube.get(JOB, "ns", name)) is None


@pytest.mark.parametrize(
    "said", ["[" * 4096, '{"a":' * 800, '{"error": NaN}', "\x00", '{"step": "i1-generate", "digest": ""}']
)
def test_whatever_a_pod_says_at_its_end_is_an_ending(said: str) -> None:
    for end in (World.complete, World.fail):
        world = World()
        job = world.until("i1-generate")
        if end is World.fail:
            world.fail(job, termination_message=said)
        else:
            world.complete(job, message=said)
        world.settle()
        world.wait(1000)  # a failed attempt waits
        world.settle()
        written, problems = read_status(world.status.model_dump(mode="json", exclude_none=True))
        assert (written, problems) == (world.status, ())
        assert len(world.active()) == 1
