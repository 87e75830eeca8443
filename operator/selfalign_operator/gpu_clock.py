"""GPUs that the pods of runs hold, and for how long: what the watches tell of workloads, added up over time."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["GpuClock"]


@dataclass(frozen=True, slots=True)
class _Held:
    namespace: str
    run_uid: str
    gpus: int


class GpuClock:
    """GPU-seconds by namespace since this process began. A GPU counts from when its pod is ready until it is not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._held: dict[str, _Held] = {}  # by the workload's uid
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def hold(self, workload: str, namespace: str, run_uid: str, gpus: int) -> None:
        """From now on the workload of this uid holds so many."""
        self._settle()
        self._seconds[namespace] += 0.0  # a namespace with workloads has a series
        if gpus:
            self._held[workload] = _Held(namespace, run_uid, gpus)
        else:
            self._held.pop(workload, None)

    def seconds(self) -> Mapping[str, float]:
        """GPU-seconds by namespace."""
        self._settle()
        return self._seconds

    def of_runs(self) -> Mapping[str, int]:
        """GPUs held now, by the run's uid."""
        found: Counter[str] = Counter()
        for held in self._held.values():
            found[held.run_uid] += held.gpus
        return found

    def _settle(self) -> None:
        now = self._clock()
        for held in self._held.values():
            self._seconds[held.namespace] += held.gpus * (now - self._since)
        self._since = now
