"""The work queue: nothing is lost, nothing is done twice at once, failures wait."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from selfalign_operator.queue import MAX_BACKOFF_SECONDS, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock, chance=lambda: 0.0)


def test_a_key_that_waits_is_not_added_twice(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert queue.take() == "a"
    assert queue.take() is None


def test_keys_are_taken_in_the_order_in_which_they_came(queue: WorkQueue[str]) -> None:
    for key in "cab":
        queue.add(key)
    assert [queue.take(), queue.take(), queue.take()] == ["c", "a", "b"]


def test_a_key_added_while_it_is_worked_on_comes_again_after(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.take()
    queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert queue.take() == "a"


def test_a_key_comes_later_at_the_earliest_time_asked_for(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    clock.now += 4.9
    assert queue.take() is None
    clock.now += 0.2
    assert queue.take() == "a"
    queue.done("a")
    clock.now += 100
    assert queue.take() is None


def test_an_event_outruns_a_later_look(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert queue.take() == "a"
    queue.done("a")
    clock.now += 11
    assert queue.take() is None


def test_events_do_not_outrun_a_backoff(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    queue.take()
    wait = queue.retry("a")
    queue.add("a")
    queue.done("a")
    queue.add("a")
    assert queue.take() is None
    clock.now += wait
    assert queue.take() == "a"


def test_a_backoff_doubles_up_to_its_bound_and_starts_anew_after_success(queue: WorkQueue[str], clock: Clock) -> None:
    waits = []
    for _ in range(12):
        queue.add("a")
        clock.now += MAX_BACKOFF_SECONDS
        assert queue.take() == "a"
        waits.append(queue.retry("a"))
        queue.done("a")
    assert waits[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert waits[-1] == MAX_BACKOFF_SECONDS
    clock.now += MAX_BACKOFF_SECONDS
    queue.take()
    queue.forget_failures("a")
    queue.done("a")
    queue.add("a")
    queue.take()
    assert queue.retry("a") == pytest.approx(0.2)


def test_a_backoff_is_as_long_as_the_apiserver_asks(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    queue.take()
    assert queue.retry("a", at_least=7.0) == 7.0


def test_the_age_is_that_of_the_oldest_key(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    clock.now += 3
    queue.add("b")
    assert (queue.depth, queue.oldest_seconds()) == (2, 3.0)
    queue.take()
    assert queue.oldest_seconds() == 0.0
    clock.now += 5
    assert queue.longest_taken() == 5.0


def test_get_wakes_every_waiting_worker_and_ends_when_closed() -> None:
    async def scene() -> list[str | None]:
        queue: WorkQueue[str] = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add("a")
        queue.add_after("b", 0.01)
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        while sum(worker.done() for worker in workers) < 2:
            await asyncio.sleep(0.001)
        queue.close()
        return [await worker for worker in workers]

    assert set(asyncio.run(scene())) == {None, "a", "b"}


KEYS = st.sampled_from("abcd")


class Queueing(RuleBasedStateMachine):
    """Whatever is done in whatever order: a key that was added is taken after it was added, never by two workers."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.chance = 0.0
        self.queue: WorkQueue[str] = WorkQueue(self.clock, lambda: self.chance)
        self.wanted: set[str] = set()  # added since they were last taken
        self.taken: set[str] = set()
        self.not_before: dict[str, float] = {}

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.wanted.add(key)

    @rule(key=KEYS, seconds=st.floats(0, 50))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self.wanted.add(key)

    @rule(seconds=st.floats(0, 40), chance=st.floats(0, 1))
    def wait(self, seconds: float, chance: float) -> None:
        self.clock.now += seconds
        self.chance = chance

    @rule()
    def take(self) -> None:
        key = self.queue.take()
        if key is not None:
            assert key not in self.taken
            assert key in self.wanted
            assert self.clock.now >= self.not_before.pop(key, 0.0)
            self.taken.add(key)
            self.wanted.discard(key)

    @rule(key=KEYS, fails=st.booleans())
    def finish(self, key: str, fails: bool) -> None:
        if key not in self.taken:
            return
        if fails:
            self.not_before[key] = self.clock.now + self.queue.retry(key)
            self.wanted.add(key)
        else:
            self.queue.forget_failures(key)
        self.queue.done(key)
        self.taken.discard(key)

    @invariant()
    def counts_what_is_due(self) -> None:
        assert 0 <= self.queue.depth <= len(self.wanted)

    def teardown(self) -> None:
        """In the end every key that was wanted is taken."""
        for key in list(self.taken):
            self.queue.done(key)
        self.clock.now += 1000
        found = set()
        while (key := self.queue.take()) is not None:
            found.add(key)
        assert found == self.wanted


TestQueueing = Queueing.TestCase
