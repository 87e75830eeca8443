"""key → observe → decide → apply, one worker a key. Whatever fails comes again after a backoff; nothing else is done.

An error of one run never stops another: it is counted, logged and tried again, also where it is a mistake of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from selfalign_operator.apply import Applied, Applier
from selfalign_operator.cache import Cache, Key
from selfalign_operator.decision import Decision
from selfalign_operator.kube.client import ApiError, NotLeader
from selfalign_operator.metrics import Metrics
from selfalign_operator.middle import Middle
from selfalign_operator.observe import Observer
from selfalign_operator.progress import ProgressPoller
from selfalign_operator.queue import WorkQueue
from selfalign_operator.views import Observed

__all__ = ["Worker"]

log = logging.getLogger(__name__)


@dataclass
class Worker:
    """What all workers of a process share; each of them is one `run()`."""

    queue: WorkQueue[Key]
    cache: Cache
    observer: Observer
    middle: Middle
    applier: Applier
    progress: ProgressPoller
    metrics: Metrics
    leads: Callable[[], bool]

    async def run(self) -> None:
        """Work until the queue is closed."""
        while (key := await self.queue.get()) is not None:
            try:
                if self.leads():
                    await self._work(key)
            finally:
                self.queue.done(key)

    def forget(self) -> None:
        """Who leads has changed: what was kept of runs is kept of them no longer."""
        self.observer.forget()
        self.applier.forget()

    async def _work(self, key: Key) -> None:
        try:
            with self.metrics.reconcile_seconds.time():
                again = await self.reconcile(key)
        except NotLeader:
            return  # whoever leads now looks at every run
        except ApiError as error:
            self._failed(key, error)
            return
        except Exception as error:
            wait = self.queue.retry(key)
            self.metrics.reconcile_errors.labels(type(error).__name__).inc()
            words = "run %s/%s: an error of the operator's own; tried again in %.1f s"
            log.exception(words, *key, wait, extra=_fields(key, type(error).__name__))
            return
        self.queue.forget_failures(key)
        if again is not None:
            self.queue.add_after(key, again)

    def _failed(self, key: Key, error: ApiError) -> None:
        self.metrics.reconcile_errors.labels(error.reason or str(error.code)).inc()
        wait = self.queue.retry(key, error.retry_after or 0.0)
        level = logging.INFO if error.code == 409 else logging.WARNING
        fields = _fields(key, error.reason or str(error.code))
        log.log(level, "run %s/%s: %s; tried again in %.1f s", *key, error, wait, extra=fields)

    async def reconcile(self, key: Key) -> float | None:
        """One turn; the seconds until the next one that nothing needs to bring about. Raises ApiError, NotLeader."""
        observed = await self.observer.observe(key)
        if observed is None:
            self._forget(key)
            return None
        decision = self.middle.decide(observed)
        applied = await self.applier.apply(observed.run, decision)
        if applied.refusals:
            decision, applied = await self._refused(replace(observed, refusals=applied.refusals))
        if applied.status is not None:
            self.metrics.count_changes(observed.run.status, applied.status)
        self.progress.watch(key, decision.progress_url)
        waits = [wait for wait in (decision.look_again_seconds, applied.wait_seconds) if wait is not None]
        return min(waits, default=None)

    async def _refused(self, observed: Observed) -> tuple[Decision, Applied]:
        """Decide once more, knowing what the apiserver did not take. Refused again: try all of it later."""
        decision = self.middle.decide(observed)
        applied = await self.applier.apply(observed.run, decision)
        if applied.refusals:
            refusal = applied.refusals[0]
            raise ApiError(refusal.code, "RefusedTwice", refusal.message)
        return decision, applied

    def _forget(self, key: Key) -> None:
        self.progress.watch(key, None)
        self.applier.forget(key)
        self.queue.forget_failures(key)


def _fields(key: Key, reason: str) -> dict[str, str]:
    """What a line of the log says beside its words, for a log store."""
    return {"namespace": key[0], "run": key[1], "reason": reason}


async def work(worker: Worker, count: int) -> None:
    """`count` workers side by side until the queue is closed."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(worker.run())
