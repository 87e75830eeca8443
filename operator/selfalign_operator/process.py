"""The operator's process: what it is made of, how it starts, leads, follows, and stops.

Both replicas watch and fill their caches. Workers take keys on both; only those of the leader do anything. Whoever
begins to lead looks at every run once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import traceback
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from selfalign_api import __version__
from selfalign_operator.apply import Applier
from selfalign_operator.cache import Cache, Key
from selfalign_operator.certificates import Certificates
from selfalign_operator.handlers import Watches
from selfalign_operator.health import Health, HealthServer
from selfalign_operator.kube.access import open_session
from selfalign_operator.kube.client import ApiError, Connection, Kube
from selfalign_operator.kube.resources import JOB, RAY_JOB, RUN, Resource
from selfalign_operator.kube.traffic import Collection
from selfalign_operator.lease import Elector, KubeLease, Leadership, Unopposed
from selfalign_operator.metrics import Metrics
from selfalign_operator.middle import Middle
from selfalign_operator.observe import Observer
from selfalign_operator.progress import ProgressPoller
from selfalign_operator.queue import WorkQueue
from selfalign_operator.unread import UnreadNamespaces
from selfalign_operator.watching import WatchedTraffic
from selfalign_operator.worker import Worker, work

__all__ = ["OperatorProcess", "Options"]

LEASE_NAME = "selfalign-operator"
LEASE_READ_SECONDS = 3.0
CHECK_KINDS_SECONDS = 30.0  # how often it is asked whether RayJobs are served now, or no longer
WAIT_FOR_CRD_SECONDS = 5.0
FINISH_SECONDS = 1.5  # what writes that are under way get on SIGTERM
RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0)  # between starts of Kopf: meanwhile nothing is heard of any run
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    kubeconfig: Path | None = None
    namespaces: tuple[str, ...] = ()  # none: all
    host: str = ""  # all addresses, of both families
    port: int = 8080
    certificates: Certificates | None = None  # by which /metrics is served, at the next two; none: it is beside health
    metrics_host: str = ""
    metrics_port: int = 8443
    leader_election: bool = True
    lease_namespace: str = "default"
    workers: int = 16
    progress_through_apiserver: bool = False


class OperatorProcess:
    """One replica."""

    def __init__(self, options: Options, middle: Middle) -> None:
        self._options = options
        self.identity = f"{os.environ.get('HOSTNAME') or os.uname().nodename}_{uuid.uuid4().hex[:8]}"
        self.cache = Cache()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.metrics = Metrics()
        self.traffic = WatchedTraffic(self.metrics, self.cache, self.queue.add)
        self._connection = Connection(options.kubeconfig, self.traffic)
        self._lease = self._leadership()
        self._kube = Kube(self._connection, self._lease.may_write)
        now = self._connection.server_time.now
        self.progress = ProgressPoller(
            self.queue.add, self._kube, through_apiserver=options.progress_through_apiserver, now=now
        )
        self._ray_jobs = False
        self._worker = Worker(
            queue=self.queue,
            cache=self.cache,
            observer=Observer(
                self._kube, self.cache, middle, self.progress.view, self.progress.unread, lambda: self._ray_jobs, now
            ),
            middle=middle,
            applier=Applier(self._kube, self.cache, self.identity, now=now),
            progress=self.progress,
            metrics=self.metrics,
            leads=lambda: self._lease.leads,
        )
        self._unread = UnreadNamespaces(
            self._kube,
            options.lease_namespace,
            LEASE_NAME,
            self.identity,
            self.traffic.unread,
            lambda: self._lease.leads,
            now,
        )
        self._health = HealthServer(
            Health(
                self.traffic.ages,
                self.queue.longest_taken,
                self._synced,
                lambda: self._lease.leader,
                self.traffic.unread,
                self._is_ready,
            ),
            self.metrics.registry,
        )
        self._stopping = asyncio.Event()
        self._publish()

    def _leadership(self) -> Leadership:
        if not self._options.leader_election:
            return Unopposed()
        kube = Kube(self._connection, lambda: None, LEASE_READ_SECONDS)
        return Elector(KubeLease(kube, self._options.lease_namespace, LEASE_NAME), self.identity)

    def _publish(self) -> None:
        self.metrics.runs(self.cache)
        gauge = self.metrics.gauge
        gauge("queue_depth", "Runs that wait for a worker.", lambda: self.queue.depth)
        gauge("queue_oldest_seconds", "How long the first of them has waited.", self.queue.oldest_seconds)
        gauge("longest_work_seconds", "How long a worker has been at one run at most.", self.queue.longest_taken)
        gauge("progress_unreadable", "Runs whose pods do not say how far they are.", lambda: self.progress.unreadable())
        gauge("leader", "1 where this process leads.", lambda: float(self._lease.leads))
        self.metrics.family(
            "namespace_unreadable",
            "1 for each watched namespace that the apiserver does not let this process read.",
            ["namespace"],
            lambda: (((namespace,), 1.0) for namespace in self.traffic.unread()),
        )
        self.metrics.family(
            "watch_age_seconds",
            "Seconds since a watch of this kind said anything; bookmarks come every minute.",
            ["resource"],
            lambda: (((kind,), age) for kind, age in self.traffic.ages().items()),
        )

    async def _serve_health(self) -> None:
        options = self._options
        await self._health.start(options.host, options.port, metrics=options.certificates is None)
        if options.certificates is not None:
            await self._health.start_secured(options.metrics_host, options.metrics_port, options.certificates.context)

    def stop(self) -> None:
        """Finish what is under way, and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped by SIGTERM or SIGINT. Raises ConfigError without access to a cluster, OSError for the port."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        log.info("selfalign-operator %s, %s", __version__, self.identity)
        await self._connection.open()
        await self._serve_health()
        leasing = asyncio.create_task(self._lease.run(), name="lease")
        watching = [
            asyncio.create_task(self._follow_lease(), name="leadership"),
            asyncio.create_task(self._watch(), name="watches"),
            asyncio.create_task(self._unread.run(), name="unread namespaces"),
        ]
        working = asyncio.create_task(self._work(), name="workers")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([leasing, *watching, working, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
                raise RuntimeError(f"{task.get_name()} ended by itself")
        finally:
            await self._end(leasing, watching, working)

    async def _end(
        self, leasing: asyncio.Task[None], watching: list[asyncio.Task[None]], working: asyncio.Task[None]
    ) -> None:
        """Writes that are under way end first; then another may lead; then everything else."""
        log.info("stopping")
        self.queue.close()
        await asyncio.wait([working], timeout=FINISH_SECONDS)
        await _cancel([working, leasing])
        await self._lease.release()
        await _cancel(watching)
        await self.progress.close()
        await self._health.close()
        await self._connection.close()
        log.info("stopped")

    # --- work ---------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Begin when the cache is whole: what is not in it would have to be asked for, run by run."""
        while not self._synced():
            if self._stopping.is_set():
                return
            await asyncio.sleep(0.05)
        log.info("the cache is filled: %d runs", len(self.cache))
        await work(self._worker, self._options.workers)

    async def _follow_lease(self) -> None:
        while True:
            await self._lease.changed.wait()
            self._lease.changed.clear()
            self.queue.clear()
            self._worker.forget()
            if self._lease.leads:
                for key in self.cache.all_keys():
                    self.queue.add(key)
            else:
                await self.progress.close()

    # --- watches ------------------------------------------------------------------------------------------------------

    def _deliver(self, event: str | None, raw: dict[str, Any]) -> None:
        """What Kopf has seen: into the cache, and if it is news, into the queue."""
        key = self.cache.remove(raw) if event == "DELETED" else self.cache.put(raw)
        if key is not None:
            self.queue.add(key)

    def _synced(self) -> bool:
        namespaces = self._options.namespaces or (None,)
        return self.traffic.has_listed(
            Collection(resource.plural, namespace) for resource in (RUN, JOB) for namespace in namespaces
        )

    async def _watch(self) -> None:
        """Keep Kopf watching what is served: it is started anew when it fails, or when RayJobs come or go."""
        watches = Watches(self._options.namespaces, self._deliver, self._open_session)
        failures = 0
        while True:
            while not await self._is_served(RUN):
                log.warning("%s is not served: apply the CRD; asked again in %.0f s", RUN.plural, WAIT_FOR_CRD_SECONDS)
                await asyncio.sleep(WAIT_FOR_CRD_SECONDS)
            self._ray_jobs = await self._is_served(RAY_JOB)
            began = asyncio.get_running_loop().time()
            failed = await self._serve(watches)
            lasted = asyncio.get_running_loop().time() - began
            failures = (failures + 1 if lasted < RESTART_SECONDS[-1] else 1) if failed else 0
            if failed:
                await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1])

    async def _serve(self, watches: Watches) -> bool:
        """Watch; True when it failed, False when RayJobs have come or gone."""
        serving = asyncio.create_task(watches.serve(ray_jobs=self._ray_jobs, stop=self.stop))
        changed = asyncio.create_task(self._ray_jobs_change())
        try:
            await asyncio.wait([serving, changed], return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                log.info("RayJobs are %s: watching anew", "gone" if self._ray_jobs else "served now")
                return False
            error = serving.exception()
            log.error("watching failed and is started anew: %s: %s", type(error).__name__, error)
            if error is not None:  # its frames hold all of that Kopf, in a circle that no garbage collection finds
                traceback.clear_frames(error.__traceback__)
            return True
        finally:
            await _cancel([serving, changed])
            self.traffic.stop_watching(RAY_JOB.plural)

    async def _ray_jobs_change(self) -> None:
        while await self._is_served(RAY_JOB) == self._ray_jobs:
            await asyncio.sleep(CHECK_KINDS_SECONDS)

    async def _open_session(self) -> tuple[str, aiohttp.ClientSession]:
        return await open_session(self._options.kubeconfig, self.traffic)

    async def _is_served(self, resource: Resource) -> bool:
        """Whether the apiserver has this kind. While it does not answer, what was known stands."""
        try:
            found = await self._kube.read(resource.root)
        except ApiError as error:
            if error.code == 404:
                return False
            log.warning("the apiserver does not say what it serves: %s", error)
            return self._ray_jobs if resource is RAY_JOB else False
        return any(each.get("name") == resource.plural for each in found.get("resources", []))

    async def _is_ready(self) -> bool:
        try:
            await self._kube.fetch("/readyz", seconds=2.0, limit=1 << 16)
        except ApiError:
            return False
        return True


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
