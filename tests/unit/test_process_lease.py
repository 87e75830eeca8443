"""Leader election with a clock and a Lease of the test's own: two never write at once, and somebody writes soon."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign_operator.kube.client import WRITE_SECONDS, ApiError, NotLeader
from selfalign_operator.lease import Elector, LeaseRecord, LeaseTimes

TIMES = LeaseTimes()


class World:
    """One Lease, one true time; each replica's clock may be far from another's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.record: LeaseRecord | None = None
        self.version = 0

    def write(self, record: LeaseRecord) -> LeaseRecord:
        self.version += 1
        self.record = replace(record, version=str(self.version))
        return self.record


class Api:
    """A replica's way to the Lease."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut = False
        self.answers_lost = False

    async def read(self) -> LeaseRecord | None:
        self._fail()
        return self.world.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._fail()
        if self.world.record is not None:
            raise ApiError(409, "AlreadyExists", "")
        return self._answer(self.world.write(record))

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        self._fail()
        if self.world.record is None or self.world.record.version != record.version:
            raise ApiError(409, "Conflict", "")
        return self._answer(self.world.write(record))

    def _fail(self) -> None:
        if self.cut:
            raise ApiError(0, "TimeoutError", "")

    def _answer(self, record: LeaseRecord) -> LeaseRecord:
        if self.answers_lost:
            raise ApiError(0, "TimeoutError", "")
        return record


class Replica:
    def __init__(self, world: World, name: str, offset: float = 0.0) -> None:
        self.api = Api(world)
        self.elector = Elector(self.api, name, TIMES, clock=lambda: world.now + offset)
        self.next = 0.0

    @property
    def leads(self) -> bool:
        return self.elector.leads


def do(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def run_until(world: World, end: float, *replicas: Replica) -> None:
    """Let time pass, each replica trying when it said it would; two never lead at once."""
    while world.now < end:
        world.now = round(world.now + 0.25, 2)
        for replica in replicas:
            if replica.next <= world.now:
                replica.next = world.now + do(replica.elector.step())
        assert sum(replica.leads for replica in replicas) <= 1


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_replica_leads_and_the_second_stands_by(world: World) -> None:
    first, second = Replica(world, "a"), Replica(world, "b", offset=-5000)
    run_until(world, 60, first, second)
    assert (first.leads, second.leads) == (True, False)


def test_a_released_lease_is_taken_at_the_next_try(world: World) -> None:
    first, second = Replica(world, "a"), Replica(world, "b")
    run_until(world, 20, first, second)
    do(first.elector.release())
    assert not first.leads
    run_until(world, 20 + TIMES.try_every + 0.25, second)
    assert second.leads


def test_a_dead_leader_is_followed_within_the_duration_and_a_try(world: World) -> None:
    first, second = Replica(world, "a"), Replica(world, "b")
    run_until(world, 20, first, second)
    run_until(world, 20 + TIMES.duration + TIMES.try_every + 0.5, second)
    assert second.leads


def test_a_leader_that_is_cut_off_stops_before_another_starts(world: World) -> None:
    first, second = Replica(world, "a"), Replica(world, "b")
    run_until(world, 20, first, second)
    first.api.cut = True
    stopped = None
    while not second.leads:
        run_until(world, world.now + 0.25, first, second)
        if stopped is None and not first.leads:
            stopped = world.now
    assert stopped is not None
    assert world.now - stopped > WRITE_SECONDS  # its last write, begun just before, is over
    with pytest.raises(NotLeader):
        first.elector.may_write()


def test_a_leader_whose_answers_are_lost_finds_that_it_still_leads(world: World) -> None:
    first, second = Replica(world, "a"), Replica(world, "b")
    run_until(world, 20, first, second)
    first.api.answers_lost = True
    run_until(world, 25, first, second)
    first.api.answers_lost = False
    run_until(world, 30, first, second)
    assert first.leads


def test_a_clock_that_jumps_ends_the_leadership(world: World) -> None:
    first = Replica(world, "a")
    run_until(world, 20, first)
    world.now += 3600  # it slept
    assert not first.leads


def test_the_last_write_ends_before_a_lease_can_be_taken() -> None:
    assert TIMES.renew_deadline + WRITE_SECONDS < TIMES.duration


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["cut", "heal", "lose", "restart", "release"]), st.integers(0, 2)), max_size=12)
)
def test_whatever_happens_one_leads_in_the_end_and_never_two(happenings: list[tuple[str, int]]) -> None:
    world = World()
    replicas = [Replica(world, f"r{number}", offset=number * 1000.0) for number in range(3)]
    run_until(world, 5, *replicas)
    for count, (what, number) in enumerate(happenings):
        replica = replicas[number]
        if what == "restart":
            replicas[number] = Replica(world, f"r{number}-{count}", offset=-77.0 * count)
            replicas[number].next = world.now
        elif what == "release":
            do(replica.elector.release())
        elif what == "lose":
            replica.api.answers_lost = True
        else:
            replica.api.cut = what == "cut"
            replica.api.answers_lost = False
        run_until(world, world.now + 3, *replicas)
    for replica in replicas:
        replica.api.cut = replica.api.answers_lost = False
    run_until(world, world.now + 2 * TIMES.duration, *replicas)
    assert sum(replica.leads for replica in replicas) == 1


def test_a_standby_is_told_from_nobody_who_leads() -> None:
    world = World()
    apis = [Api(world), Api(world)]
    first, second = (Elector(api, name, TIMES, lambda: world.now) for api, name in zip(apis, "ab", strict=True))
    assert "nobody else" in second.leader
    asyncio.run(first.step())
    asyncio.run(second.step())
    assert (first.leader, second.leader) == ("yes", "no: a leads")
    for api in apis:
        api.cut = True
    world.now += TIMES.duration + 1
    asyncio.run(second.step())
    assert second.leader == "no, and nobody else: no answer TimeoutError: "


def test_a_lease_that_somebody_deleted_is_made_again() -> None:
    world = World()
    elector = Elector(Api(world), "a", TIMES, lambda: world.now)
    asyncio.run(elector.step())
    world.record = None
    for _ in range(30):
        world.now += asyncio.run(elector.step())
        if elector.leads and world.record is not None:
            break
    assert (elector.leader, world.record is not None) == ("yes", True)
