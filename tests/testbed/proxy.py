"""A proxy between a client and the apiserver, that a test tells what to let through."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from selfalign_operator.kube.access import open_session
from testbed.processes import free_port

Intercept = Callable[[web.Request], web.Response | None]


class _Deaf:
    def answered(self, verb: str, code: str) -> None: ...
    def frame(self, collection: Any) -> None: ...
    def page(self, collection: Any, first: bool, body: Any) -> None: ...


class Proxy:
    """Passes on what `intercept` does not answer, by the credentials of `kubeconfig`. Serves plain HTTP on loopback.

    `cut` ends all answers that are under way, watches too; while `closed`, every connection is cut.
    """

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.intercept: Intercept = lambda request: None
        self.closed = False
        self._upstream_kubeconfig = kubeconfig
        self._port = free_port()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the proxy does not come up")
        self.kubeconfig = folder / f"proxy-{self._port}.kubeconfig"
        config = {
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}],
            "users": [{"name": "proxy", "user": {}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def cut(self) -> None:
        """End what is under way."""
        self._do(self._cut())

    def stop(self) -> None:
        """Serve no more."""
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _cut(self) -> None:
        for task in self._under_way:
            task.cancel()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        self._server, self._session = await open_session(self._upstream_kubeconfig, _Deaf())
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, shutdown_timeout=0.5).start()

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            if self.closed:
                return self._hang_up(request)
            answer = self.intercept(request)
            return answer if answer is not None else await self._pass_on(request)
        except asyncio.CancelledError:
            return self._hang_up(request)
        finally:
            self._under_way.discard(task)

    @staticmethod
    def _hang_up(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {
            name: request.headers[name] for name in ("Content-Type", "Accept", "User-Agent") if name in request.headers
        }
        async with self._session.request(
            request.method,
            self._server + str(request.rel_url),
            data=await request.read() or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as upstream:
            response = web.StreamResponse(status=upstream.status)
            response.content_type = upstream.content_type
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response
