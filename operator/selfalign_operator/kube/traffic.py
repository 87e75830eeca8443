"""What every answer of the apiserver tells beside its content: verb and code, frames of a watch, pages of a list.

Kopf drops bookmarks before its handlers and says nothing of a relist. Both its session and ours are built with this
middleware, so an idle watch is told from a dead one, and objects that vanished while nobody watched are found.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from yarl import URL

from selfalign_operator.kube.nesting import loads, shallow

__all__ = ["ApiResponse", "Collection", "Traffic", "observing", "verb_of"]

COLLECTION = re.compile(
    r"(?:/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?P<name>/.+)?$"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
Middleware = Callable[[aiohttp.ClientRequest, aiohttp.ClientHandlerType], Any]


@dataclass(frozen=True)
class Collection:
    """What a list or a watch covers: all objects of a kind, or those of one namespace."""

    plural: str
    namespace: str | None = None


class Traffic(Protocol):
    """Who wants to know."""

    def answered(self, verb: str, code: str) -> None:
        """A call ended, with an HTTP status or the name of an error."""

    def frame(self, collection: Collection) -> None:
        """A watch gave something (an event, a bookmark), or began."""

    def refused(self, collection: Collection) -> None:
        """A list or a watch was forbidden."""

    def page(self, collection: Collection, first: bool, body: Any) -> None:
        """A page of a list, as JSON; `first` begins a new list, and one without metadata.continue ends it."""


def _collection_of(url: URL) -> Collection | None:
    """What a path lists; None for a single object and for what is no resource."""
    found = COLLECTION.search(url.path)
    if found is None or found["name"] is not None:
        return None
    return Collection(found["plural"], found["namespace"])


def verb_of(method: str, url: URL) -> str:
    """Kubernetes' name for a request: get, list, watch, create, update, patch, delete."""
    if method != "GET":
        return VERBS.get(method, method.lower())
    if url.query.get("watch") == "true":
        return "watch"
    return "list" if _collection_of(url) is not None else "get"


class ApiResponse(aiohttp.ClientResponse):
    """A response that tells what its JSON was."""

    on_json: Callable[[Any], None] | None = None

    async def json(self, **options: Any) -> Any:
        """The body as JSON."""
        body = await super().json(**{"loads": loads} | options)
        if self.on_json is not None:
            self.on_json(body)
        return body


class _WatchedStream:
    """The content of a watch, line by line, telling of every piece that arrives.

    A line that a cut connection left unfinished is no frame: the watch goes on from the last whole one.
    """

    def __init__(self, content: aiohttp.StreamReader, on_data: Callable[[], None]) -> None:
        self._content = content
        self._on_data = on_data

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for data in self._content.iter_chunked(size):
            self._on_data()
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                yield b"".join(shallow(line) + newline for line in whole.split(newline))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def observing(traffic: Traffic) -> Middleware:
    """An aiohttp middleware that tells `traffic` of every call."""

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        verb = verb_of(request.method, request.url)
        try:
            response = await handler(request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            traffic.answered(verb, type(error).__name__)
            raise
        traffic.answered(verb, str(response.status))
        collection = _collection_of(request.url)
        if collection is not None and response.status == 403 and verb in ("list", "watch"):
            traffic.refused(collection)
        if collection is not None and response.status == 200:
            _observe(traffic, verb, collection, request.url, response)
        return response

    return middleware


def _observe(traffic: Traffic, verb: str, collection: Collection, url: URL, response: aiohttp.ClientResponse) -> None:
    if verb == "watch":
        traffic.frame(collection)
        stream: Any = _WatchedStream(response.content, lambda: traffic.frame(collection))
        response.content = stream
    elif verb == "list" and isinstance(response, ApiResponse):
        first = "continue" not in url.query
        response.on_json = lambda body: traffic.page(collection, first, body)
