"""The work queue: keys to reconcile. One worker a key, no key twice, failures back off, some come again later.

Pure but for the clock and the chance that it is given, so that its rules are property-tested; `get` alone waits.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["WorkQueue"]

K = TypeVar("K")
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0
SPARE_ENTRIES = 64  # superseded ones that the heap may hold beyond as many as there are keys


class WorkQueue(Generic[K]):
    """Keys that are due, and keys that come later.

    - A key that is added while it waits is not added again; one that is added while a worker has it comes again after.
    - `retry` backs off: doubled for every failure in a row, by chance up to half shorter; what is added meanwhile waits
      with it, so that a flood of events cannot outrun the backoff.
    - Taking a key forgets when it was to come again: whoever takes it decides that anew.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._due: dict[K, float] = {}  # key -> since when; in order of arrival
        self._later: dict[K, float] = {}  # key -> when
        self._heap: list[tuple[float, int, K]] = []  # of _later, with entries that have been superseded
        self._count = 0
        self._backing_off: set[K] = set()
        self._taken: dict[K, float] = {}
        self._again: set[K] = set()  # added while taken
        self._failures: dict[K, int] = {}
        self._woken = asyncio.Event()
        self._closed = False

    def add(self, key: K) -> None:
        """Look at this key now."""
        if key in self._taken:
            self._again.add(key)
        elif key not in self._due and key not in self._backing_off:
            self._later.pop(key, None)
            self._due[key] = self._clock()
            self._woken.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Look at this key in that many seconds, or before; the earliest call counts."""
        at = self._clock() + max(0.0, seconds)
        if key in self._due or key in self._backing_off or self._later.get(key, at + 1) <= at:
            return
        self._schedule(key, at)

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Look at this key, which failed, after a backoff of at least `at_least` seconds, which is returned."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(FIRST_BACKOFF_SECONDS * float(2 ** min(failures - 1, 30)), MAX_BACKOFF_SECONDS)
        wait = max(wait * (1 - self._chance() / 2), at_least)
        self._due.pop(key, None)
        self._backing_off.add(key)
        self._schedule(key, self._clock() + wait)
        return wait

    def forget_failures(self, key: K) -> None:
        """Count the next failure of this key, which went well, as a first one."""
        self._failures.pop(key, None)

    def take(self) -> K | None:
        """The key that has waited longest, now this worker's until `done`; None when none is due."""
        self._ripen()
        for key in self._due:
            del self._due[key]
            self._taken[key] = self._clock()
            return key
        return None

    def done(self, key: K) -> None:
        """The worker has finished with this key."""
        del self._taken[key]
        if key in self._again:
            self._again.remove(key)
            self.add(key)

    async def get(self) -> K | None:
        """Wait for a key and take it; None once the queue is closed."""
        while not self._closed:
            key = self.take()
            if key is not None:
                if self._due:
                    self._woken.set()  # for the next worker
                return key
            self._woken.clear()
            try:
                async with asyncio.timeout(self._seconds_to_next()):
                    await self._woken.wait()
            except TimeoutError:
                continue
        return None

    def close(self) -> None:
        """No worker gets a key any more."""
        self._closed = True
        self._woken.set()

    def clear(self) -> None:
        """Forget all keys that no worker has."""
        for forgotten in (self._due, self._later, self._heap, self._backing_off, self._again, self._failures):
            forgotten.clear()

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        return len(self._due)

    def oldest_seconds(self) -> float:
        """How long the key that is due has waited at most."""
        return self._clock() - next(iter(self._due.values())) if self._due else 0.0

    def longest_taken(self) -> float:
        """How long a worker has had its key at most."""
        return self._clock() - min(self._taken.values()) if self._taken else 0.0

    def _schedule(self, key: K, at: float) -> None:
        self._later[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._later) + SPARE_ENTRIES:
            self._heap = [entry for entry in self._heap if self._later.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._woken.set()

    def _ripen(self) -> None:
        """Move to the due ones what was to come later and whose time has come."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._later.get(key) != at:
                continue  # superseded
            del self._later[key]
            self._backing_off.discard(key)
            self.add(key)

    def _seconds_to_next(self) -> float | None:
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
