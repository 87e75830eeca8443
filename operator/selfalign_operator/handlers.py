"""The Kopf layer: it watches runs and their workloads, and every event only fills the cache and enqueues a key.

No finalizer, no annotation, no peering, no event of Kopf's own: with `on.event` alone it writes nothing. Kopf serves
until it is cancelled; when it fails, or when RayJobs come or go, it is started anew.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory  # not public: kopf is pinned

from selfalign_operator.kube.resources import JOB, RAY_JOB, RUN, Resource
from selfalign_operator.views import UID_LABEL

__all__ = ["Deliver", "Watches"]

Deliver = Callable[[str | None, dict[str, Any]], None]  # ADDED, MODIFIED, DELETED; the object. Lists: watching.py
OpenSession = Callable[[], Awaitable[tuple[str, aiohttp.ClientSession]]]
LIST_CHUNK = 500
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
END_SECONDS = 5.0
END_TRIES = 50
KOPF = str(Path(kopf.__file__).parent)
log = logging.getLogger(__name__)


class _Forever:
    """Kopf's waits between tries of one request: a watch is never given up."""

    def __iter__(self) -> Iterator[float]:
        yield from RETRY_SECONDS
        while True:
            yield RETRY_SECONDS[-1]


class _Nothing(kopf.DiffBaseStorage):
    """Kopf compares every event with a copy of the last one; we compare by resourceVersion, in the cache."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("Kopf writes nothing here")


class _NoMemories(ResourceMemories):
    """Kopf remembers each object until it sees it deleted: of one that goes while no watch looks, for ever. We need none."""

    async def recall(self, raw_body: Any, **options: Any) -> ResourceMemory:
        return await super().recall(raw_body, **options | {"ephemeral": True})


@dataclass(frozen=True)
class Watches:
    """What Kopf serves: all namespaces when none is given."""

    namespaces: Sequence[str]
    deliver: Deliver
    open_session: OpenSession

    async def serve(self, *, ray_jobs: bool, stop: Callable[[], None]) -> None:
        """Watch until cancelled. Raises what made Kopf fail."""
        resources = (RUN, JOB, RAY_JOB) if ray_jobs else (RUN, JOB)
        tasks = await kopf.spawn_tasks(
            registry=self._registry(resources),
            settings=_settings(),
            memories=_NoMemories(),
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
            standalone=True,
            identity=cast(Any, "selfalign-operator"),  # it would look for the user's name, and a pod's user has none
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # Kopf has just taken them
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise RuntimeError("Kopf has stopped by itself")
        finally:
            await asyncio.shield(_end_kopf())

    def _registry(self, resources: Sequence[Resource]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            server, session = await self.open_session()
            return kopf.AiohttpSession(server=server, aiohttp_session=session)

        async def deliver(event: kopf.RawEvent, **_: Any) -> None:
            self.deliver(event["type"], dict(event["object"]))

        for resource in resources:
            kopf.on.event(resource.api_version, resource.plural, id=resource.plural, registry=registry)(deliver)
        return registry


async def _end_kopf() -> None:
    """Cancel whatever Kopf runs, until it has ended.

    When one of its watches fails, Kopf leaves the others to themselves; and some of its tasks outlive a cancellation.
    """
    left = _tasks_of_kopf()
    for _ in range(END_TRIES):
        for task in left:
            task.cancel()
        if not left:
            return
        await asyncio.wait(left, timeout=END_SECONDS / END_TRIES)
        left = _tasks_of_kopf()
    log.error("Kopf does not end: %s", ", ".join(sorted(task.get_name() for task in left)))


def _tasks_of_kopf() -> set[asyncio.Task[Any]]:
    """Tasks whose code is Kopf's: there is one Kopf in a process at a time."""
    codes = ((task, getattr(task.get_coro(), "cr_code", None)) for task in asyncio.all_tasks())
    return {task for task, code in codes if code is not None and code.co_filename.startswith(KOPF)}


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # neither namespaces nor CRDs are watched: no rights to them are needed
    settings.watching.chunk_size = LIST_CHUNK  # halves the memory of a start
    for resource in (JOB, RAY_JOB):
        settings.watching.label_selectors[resource.api_version, resource.plural] = UID_LABEL
    settings.networking.error_backoffs = _Forever()
    settings.networking.request_timeout = 20.0  # of a page of a list
    settings.networking.connect_timeout = 10.0
    settings.execution.default_backoff = RETRY_SECONDS[-1]  # before it logs in again, when that failed
    settings.queueing.idle_timeout = 0.05  # a task a quiet object is memory
    settings.queueing.exit_timeout = 0.2
    settings.process.ultimate_exiting_timeout = None  # it kills the process long after, though Kopf was started anew
    settings.persistence.diffbase_storage = _Nothing()
    return settings
