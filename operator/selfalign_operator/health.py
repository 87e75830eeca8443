"""/metrics, /healthz and /readyz: on one port, or the first by TLS on a port of its own, which the kubelet need not know.

Alive is a process that restarting would not help: a watch that is silent while the apiserver answers, or a worker that
does not come back, would be helped. Ready is one whose cache is what the cluster is, leader or standby.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

__all__ = ["Health", "HealthServer"]

SILENT_SECONDS = 150.0  # bookmarks come every minute
STUCK_SECONDS = 300.0  # every call of a reconciliation has a timeout far below
Handler = Callable[[web.Request], Awaitable[web.Response]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    """What the process says of itself."""

    watch_ages: Callable[[], Mapping[str, float]]  # seconds, by kind
    longest_work: Callable[[], float]  # seconds that a worker has been at one run
    synced: Callable[[], bool]  # whether every watched kind was listed once
    leader: Callable[[], str]  # in words
    unread: Callable[[], Iterable[str]]  # namespaces that the apiserver does not let it read
    apiserver_ready: Callable[[], Awaitable[bool]]

    async def problems(self) -> list[str]:
        """Why the process should be restarted."""
        found = []
        silent = self._silent()
        if silent and await self.apiserver_ready():
            found.append(f"the apiserver is ready, and these watches are silent: {', '.join(silent)}")
        if (stuck := self.longest_work()) > STUCK_SECONDS:
            found.append(f"a worker has been at one run for {stuck:.0f} s")
        return found

    def unready(self) -> list[str]:
        """Why the cache is not what the cluster is."""
        found = [] if self.synced() else ["not everything has been listed yet"]
        return found + [f"this watch is silent: {silent}" for silent in self._silent()]

    def lines(self) -> list[str]:
        """For people."""
        ages = [f"watch {kind}: {age:.0f} s ago" for kind, age in sorted(self.watch_ages().items())]
        unread = [f"namespace {name} cannot be read: its runs wait for a RoleBinding" for name in self.unread()]
        return [f"leader: {self.leader()}", *unread, *ages]

    def _silent(self) -> list[str]:
        return [f"{kind} ({age:.0f} s)" for kind, age in self.watch_ages().items() if age > SILENT_SECONDS]


class HealthServer:
    """Serves until closed."""

    def __init__(self, health: Health, registry: CollectorRegistry) -> None:
        self._health = health
        self._registry = registry
        self._runners: list[web.AppRunner] = []

    async def start(self, host: str, port: int, *, metrics: bool = True) -> int:
        """Listen, without a host on all addresses; the port that was taken (0: any). Raises OSError when it cannot be had."""
        health: dict[str, Handler] = {"/healthz": self._healthz, "/readyz": self._readyz}
        return await self._listen(host, port, health | ({"/metrics": self._metrics} if metrics else {}))

    async def start_secured(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """The same for /metrics alone, by TLS."""
        return await self._listen(host, port, {"/metrics": self._metrics}, context)

    async def _listen(
        self, host: str, port: int, served: Mapping[str, Handler], context: ssl.SSLContext | None = None
    ) -> int:
        app = web.Application()
        app.add_routes([web.get(path, answer) for path, answer in served.items()])
        runner = web.AppRunner(app, access_log=None)
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, host or None, port, shutdown_timeout=0.5, ssl_context=context)
        await site.start()
        taken: int = runner.addresses[0][1]
        by = " by TLS" if context else ""
        log.info("%s on %s:%d%s", ", ".join(served), host or "all addresses", taken, by)
        return taken

    async def close(self) -> None:
        """Stop listening."""
        for runner in self._runners:
            await runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        return self._answer(await self._health.problems())

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._answer(self._health.unready())

    def _answer(self, problems: list[str]) -> web.Response:
        lines = [*(problems or ["ok"]), *self._health.lines()]
        return web.Response(text="\n".join(lines) + "\n", status=500 if problems else 200)
