"""A proxy before the apiserver that a client does not notice but for what goes wrong: by chance, from a seed, or on order.

It speaks TLS with the testbed's own authority and asks the apiserver as the user of a kubeconfig. `FaultProxy.kubeconfig`
leads through it. Its loop runs in a thread of its own; all methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from testbed.certificates import Authority, write_private

__all__ = ["Call", "FaultProxy", "Faults"]

T = TypeVar("T")
HEADERS = ("Content-Type", "Accept", "User-Agent")
EXPIRED = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "reason": "Expired",
    "code": 410,
    "message": "too old",
}


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong: shares of all requests (of watches, of frames), and how long it lasts, in seconds."""

    conflict: float = 0.0  # a write is answered 409 and does not arrive
    too_many: float = 0.0  # 429 with Retry-After: 1
    error: float = 0.0  # 500
    cut_before: float = 0.0  # the connection ends, and the request never arrived
    cut_after: float = 0.0  # the request arrived, and its answer did not
    stall: float = 0.0  # nothing happens for stall_seconds, then the request goes on its way, its client there or not
    stall_seconds: float = 0.0
    gone: float = 0.0  # of watches: 410 at once
    expired: float = 0.0  # of frames: 410 in its place, and the stream ends well
    watch_cut: float = 0.0  # of frames: half of it, and the connection ends
    doubled: float = 0.0  # of frames
    slow: float = 0.0  # of frames: slow_seconds late, and all after it
    slow_seconds: float = 0.0


@dataclass(frozen=True)
class Call:
    """A request that reached the apiserver."""

    method: str
    path: str
    dry_run: bool
    code: int
    seconds: float  # by the loop's clock, when it was answered
    late: bool  # its client had left before it arrived

    @property
    def is_write(self) -> bool:
        return self.method != "GET" and not self.dry_run


@dataclass
class _Record:
    calls: list[Call] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class FaultProxy:
    """A proxy that runs until `close`.

    Args:
        kubeconfig: how the apiserver is reached, with client certificates inside.
        authority: what signs the proxy's own certificate.
        folder: an empty or new folder for its keys and its kubeconfig.
        faults: what goes wrong from the beginning on.
        seed: of the chance.
    """

    def __init__(
        self, kubeconfig: Path, authority: Authority, folder: Path, faults: Faults = Faults(), seed: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        self._target: str = self._config["clusters"][0]["cluster"]["server"]
        self._faults = faults
        self._random = random.Random(seed)
        self._record = _Record()
        self._blocked: Callable[[str, str], bool] | None = None
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True).start()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*authority.server(["localhost"], ["127.0.0.1"]).write(folder, "proxy"))
        port = self._wait(self._start(server))
        self._config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        self.kubeconfig = folder / "kubeconfig"
        write_private(self.kubeconfig, yaml.safe_dump(self._config).encode())

    # --- orders -------------------------------------------------------------------------------------------------------

    def set(self, faults: Faults) -> None:
        """From now on these go wrong; without any, nothing does."""
        self._faults = faults

    def block(self, blocked: Callable[[str, str], bool] | None) -> None:
        """Requests of this method and path are not answered, watches under way end; None: all are again."""
        self._blocked = blocked

    @property
    def calls(self) -> list[Call]:
        """All that reached the apiserver, in order."""
        return list(self._record.calls)

    @property
    def faults(self) -> Counter[str]:
        """How often what went wrong."""
        return Counter(self._record.faults)

    def now(self) -> float:
        """The clock of `Call.seconds`."""
        return self._loop.time()

    def close(self) -> None:
        """End it."""
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    # --- the proxy ----------------------------------------------------------------------------------------------------

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _start(self, server: ssl.SSLContext) -> int:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._client_context(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            read_bufsize=4 << 20,
        )
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=server).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._session.close()

    def _client_context(self) -> ssl.SSLContext:
        cluster, user = self._config["clusters"][0]["cluster"], self._config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        for name in ("client-certificate-data", "client-key-data"):
            write_private(self._folder / name, base64.b64decode(user[name]))
        context.load_cert_chain(self._folder / "client-certificate-data", self._folder / "client-key-data")
        return context

    def _by_chance(self, fault: str) -> bool:
        share: float = getattr(self._faults, fault)
        happens = self._random.random() < share
        if happens:
            self._record.faults[fault] += 1
        return happens

    def _is_blocked(self, request: web.Request) -> bool:
        return self._blocked is not None and self._blocked(request.method, request.path)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read() or None  # now: a client that leaves would take what is not read yet with it
        while self._is_blocked(request):  # silent, as a lost network is
            await asyncio.sleep(0.05)
            if request.transport is None:
                return web.Response()
        watch = request.query.get("watch") == "true"
        if (said := self._refusal(request.method, watch)) is not None:
            return said
        if self._by_chance("cut_before"):
            return _cut(request)
        if self._by_chance("stall"):
            await asyncio.sleep(self._faults.stall_seconds)
        return await (self._watch(request) if watch else self._pass_on(request, body))

    def _refusal(self, method: str, watch: bool) -> web.Response | None:
        if watch and self._by_chance("gone"):
            return _status(410, "Expired")
        if method != "GET" and self._by_chance("conflict"):
            return _status(409, "Conflict")
        if self._by_chance("too_many"):
            return _status(429, "TooManyRequests", {"Retry-After": "1"})
        return _status(500, "InternalError") if self._by_chance("error") else None

    def _forward(self, request: web.Request, body: bytes | None) -> Any:
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        url = URL(self._target + request.raw_path, encoded=True)
        return self._session.request(
            request.method,
            url,
            data=body,
            headers=headers | {"Accept-Encoding": "identity"},
            skip_auto_headers=("Content-Type",),  # the apiserver takes a body without one for JSON
            allow_redirects=False,
        )

    async def _pass_on(self, request: web.Request, body: bytes | None) -> web.StreamResponse:
        late = request.transport is None
        async with self._forward(request, body) as answer:
            content = await answer.read()
            now, dry_run = self._loop.time(), "dryRun" in request.query
            self._record.calls.append(Call(request.method, request.path, dry_run, answer.status, now, late))
            if self._by_chance("cut_after"):
                return _cut(request)
            kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
            return web.Response(status=answer.status, body=content, headers=kept)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._forward(request, None) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            try:
                await response.prepare(request)
                async for line in _lines(answer.content, lambda: self._is_blocked(request)):
                    if self._by_chance("slow"):
                        await asyncio.sleep(self._faults.slow_seconds)
                    if self._by_chance("expired"):
                        await response.write(json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n")
                        break
                    if self._by_chance("watch_cut"):
                        await response.write(line[: len(line) // 2])
                        return _cut(request)
                    await response.write(line * (2 if self._by_chance("doubled") else 1))
            except (ConnectionError, aiohttp.ClientError):
                return _cut(request)  # either side has left
            return response


async def _lines(content: aiohttp.StreamReader, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Whole lines until the stream ends or `is_over`."""
    reading = asyncio.ensure_future(content.readline())
    try:
        while not is_over():
            done, _ = await asyncio.wait([reading], timeout=0.2)
            if not done:
                continue
            line = reading.result()
            if not line:
                return
            reading = asyncio.ensure_future(content.readline())
            yield line
        raise ConnectionError("blocked")
    finally:
        reading.cancel()


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _status(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    body = EXPIRED | {"code": code, "reason": reason, "message": f"injected {reason}"}
    return web.Response(status=code, text=json.dumps(body), content_type="application/json", headers=headers)
