"""The apiserver as the operator uses it: JSON in, JSON out, every call with a timeout, no write by one who may not.

A call that failed by what may be over in a moment is made again within its timeout: a turn of the reconciliation is up to
ten calls, and one that failed would have all of them made again. Every one of them may be repeated: names are fixed,
a status has the version that it was computed from, a deletion the uid.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from selfalign_operator.kube.access import open_session
from selfalign_operator.kube.clock import ServerClock
from selfalign_operator.kube.nesting import loads
from selfalign_operator.kube.resources import Resource
from selfalign_operator.kube.traffic import Traffic

__all__ = ["FIELD_MANAGER", "ApiError", "Connection", "Kube", "NotLeader"]

FIELD_MANAGER = "selfalign-operator"
READ_SECONDS = 10.0
WRITE_SECONDS = 3.5  # below a lease less its renew deadline (lease.py): a deposed leader's last write is over by then
PAUSES = (0.1, 0.3, 0.9)  # seconds between tries of one call, by chance up to half shorter or longer
PASSING = (0, 429, 500, 502, 503, 504)  # answers that may be others in a moment
REOPEN_SECONDS = 10.0  # credentials are read anew at most so often
MAX_BODY_BYTES = 64 << 20
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
Json = dict[str, Any]


class ApiError(Exception):
    """A call that did not succeed; code 0: no answer came."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code or 'no answer'} {reason}: {message}")
        self.code = code
        self.reason = reason  # of the Status object: AlreadyExists, Conflict, Invalid, Forbidden, …
        self.message = message
        self.retry_after = retry_after  # seconds the apiserver asked for

    @property
    def is_of_live_object(self) -> bool:
        """A server-side apply to an object that does not fit today's schema (apimachinery, structuredmerge.go): a 500."""
        return self.code == 500 and "typed live object" in self.message

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.code in PASSING and not self.is_of_live_object


class NotLeader(Exception):
    """A write by a process that has lost the lease, or is about to."""


class Connection:
    """A session to one apiserver, opened again when its credentials are refused."""

    def __init__(self, kubeconfig: Path | None, traffic: Traffic, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubeconfig = kubeconfig
        self._traffic = traffic
        self._clock = clock
        self._server = ""
        self._session: aiohttp.ClientSession | None = None
        self._opened_at = 0.0
        self.server_time = ServerClock()

    async def open(self) -> None:
        """Read the credentials and open a session. Raises ConfigError."""
        self._opened_at = self._clock()
        before = self._session
        self._server, self._session = await open_session(self._kubeconfig, self._traffic)
        if before is not None:
            await before.close()

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        seconds: float = READ_SECONDS,
        limit: int = MAX_BODY_BYTES,
    ) -> bytes:
        """The body of the answer, at most `limit` bytes. Raises ApiError for anything but success within `seconds`."""
        if self._session is None:
            raise RuntimeError("the connection is not open")
        try:
            async with self._session.request(
                method,
                self._server + path,
                params=query,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": content_type, "Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                content = await _read(response, limit)
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            raise ApiError(0, type(error).__name__, str(error) or f"{method} {path} took over {seconds} s") from error
        self.server_time.heard(response.headers.get("Date"))
        if response.status == 401 and self._clock() - self._opened_at > REOPEN_SECONDS:
            await self.open()
        if response.status >= 300:
            raise _refusal(response, content)
        return content


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    content = bytearray()
    async for data in response.content.iter_any():
        content += data
        if len(content) > limit:
            response.close()
            raise aiohttp.ClientPayloadError(f"more than {limit} bytes")
    return bytes(content)


def _refusal(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    """The error of an answer; its body is a Status object, unless something else answered (a proxy, a webhook)."""
    try:
        status = json.loads(content)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {"message": content[:200].decode(errors="replace")}
    details = status.get("details")
    asked = response.headers.get("Retry-After") or (
        details.get("retryAfterSeconds") if isinstance(details, dict) else 0
    )
    try:
        retry_after = float(asked or 0) or None
    except (TypeError, ValueError):
        retry_after = None  # a date: no apiserver writes one
    return ApiError(response.status, str(status.get("reason", "")), str(status.get("message", "")), retry_after)


class Kube:
    """Reads and writes of objects. `may_write` raises NotLeader where this process must not write (any more)."""

    def __init__(
        self, connection: Connection, may_write: Callable[[], None], read_seconds: float = READ_SECONDS
    ) -> None:
        self._connection = connection
        self._may_write = may_write
        self._read_seconds = read_seconds

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object, or None when there is none (or no such kind). The name may be anything: a status is edited by hand."""
        if not NAME.fullmatch(name):
            return None
        try:
            return await self.read(resource.path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def list(
        self, resource: Resource, namespace: str, *, labels: str = "", fields: str = "", limit: int = 500
    ) -> list[Json]:
        """At most `limit` objects that match both selectors."""
        query = {"limit": str(limit)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        items = (await self.read(resource.path(namespace), query)).get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Any JSON object by its path."""

        def call(seconds: float) -> Awaitable[bytes]:
            return self._connection.call("GET", path, query=query, seconds=seconds)

        return _object(await _patiently(call, self._read_seconds))

    async def fetch(self, path: str, *, seconds: float, limit: int) -> bytes:
        """What stands at a path, as it is (pods/proxy, /readyz), by one try."""
        return await self._connection.call("GET", path, seconds=seconds, limit=limit)

    async def create(self, resource: Resource, namespace: str, manifest: Json, *, dry_run: bool = False) -> Json:
        """The object as the apiserver made it; with `dry_run`, as it would make it."""
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._write("POST", resource.path(namespace), query=query, body=manifest)

    async def replace(self, resource: Resource, namespace: str, manifest: Json, *, part: str | None = None) -> Json:
        """PUT the object (or its status) while it has the resourceVersion of the manifest; 409 otherwise."""
        path = resource.path(namespace, manifest["metadata"]["name"], part)
        return await self._write("PUT", path, query={"fieldManager": FIELD_MANAGER}, body=manifest)

    async def apply_status(self, resource: Resource, namespace: str, manifest: Json) -> Json:
        """Server-side apply of the status, taking over fields that others set; 409 when its resourceVersion is old."""
        path = resource.path(namespace, manifest["metadata"]["name"], "status")
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._write("PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml")

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete that very object, its dependents after it; one that is gone, or another of its name, is no error."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._write("DELETE", resource.path(namespace, name), body=options)
        except ApiError as error:
            if error.code == 404 or (error.code == 409 and not await self._is_there(resource, namespace, name, uid)):
                return
            raise

    async def _is_there(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        found = await self.get(resource, namespace, name)
        return found is not None and found["metadata"]["uid"] == uid

    async def _write(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json,
        content_type: str = "application/json",
    ) -> Json:
        def call(seconds: float) -> Awaitable[bytes]:
            self._may_write()
            return self._connection.call(
                method, path, query=query, body=body, content_type=content_type, seconds=seconds
            )

        return _object(await _patiently(call, WRITE_SECONDS))


async def _patiently(call: Callable[[float], Awaitable[bytes]], seconds: float) -> bytes:
    """Make the call, which is given the seconds that are left to it, until it succeeds or nothing speaks for another try."""
    end = time.monotonic() + seconds
    for pause in PAUSES:
        try:
            return await call(end - time.monotonic())
        except ApiError as error:
            wait = max(pause * random.uniform(0.5, 1.5), error.retry_after or 0.0)
            if not error.passes or time.monotonic() + wait >= end:
                raise
        await asyncio.sleep(wait)
    return await call(end - time.monotonic())


def _object(content: bytes) -> Json:
    try:
        value = loads(content)
    except ValueError as error:
        raise ApiError(0, "BadAnswer", f"the answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(0, "BadAnswer", "the answer is no object")
    return value
