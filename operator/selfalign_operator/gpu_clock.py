"""GPUs that the pods of runs hold, and for how long: what is told of workloads, added up over time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["GpuClock"]


@dataclass(slots=True)
class _Account:
    """What one namespace has spent until `since`, and holds since then."""

    since: float
    gpus: int = 0
    seconds: float = 0.0

    def settle(self, now: float) -> None:
        self.seconds += self.gpus * (now - self.since)
        self.since = now


class GpuClock:
    """GPU-seconds by namespace since this process began. A GPU counts from when its pod has a node until it has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}  # by namespace: each that has had a workload
        self._held: dict[str, tuple[str, int]] = {}  # by the workload's uid: its run's uid, and GPUs

    def hold(self, workload: str, namespace: str, run_uid: str, gpus: int) -> None:
        """From now on the workload of this uid holds so many."""
        now = self._clock()
        account = self._accounts.setdefault(namespace, _Account(now))
        account.settle(now)
        _, before = self._held.pop(workload, (run_uid, 0))
        account.gpus += gpus - before
        if gpus:
            self._held[workload] = (run_uid, gpus)

    def seconds(self) -> Mapping[str, float]:
        """GPU-seconds by namespace."""
        now = self._clock()
        for account in self._accounts.values():
            account.settle(now)
        return {namespace: account.seconds for namespace, account in self._accounts.items()}

    def of_runs(self) -> Mapping[str, int]:
        """GPUs held now, by the run's uid."""
        found: Counter[str] = Counter()
        for run_uid, gpus in self._held.values():
            found[run_uid] += gpus
        return found
