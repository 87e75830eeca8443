"""The client and what it tells of its traffic, against a real HTTP server that answers as an apiserver does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from selfalign_api.errors import ConfigError
from selfalign_operator.kube.access import open_session
from selfalign_operator.kube.client import ApiError, Connection, Kube, NotLeader
from selfalign_operator.kube.resources import JOB, POD, RUN
from selfalign_operator.kube.traffic import Collection, verb_of

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Heard:
    """Traffic, written down."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str]] = []
        self.frames: list[Collection] = []
        self.pages: list[tuple[Collection, bool, int]] = []

    def answered(self, verb: str, code: str) -> None:
        self.answers.append((verb, code))

    def frame(self, collection: Collection) -> None:
        self.frames.append(collection)

    def refused(self, collection: Collection) -> None:
        self.frames.append(Collection(f"no {collection.plural}", collection.namespace))

    def page(self, collection: Collection, first: bool, body: Any) -> None:
        self.pages.append((collection, first, len(body["items"])))


class Server:
    def __init__(self, folder: Path, answer: Answer) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.answer = answer
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Heard]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append(request)
            self.bodies.append(await request.read())
            return await self.answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        self.write_kubeconfig(runner.addresses[0][1], "first")
        try:
            yield Heard()
        finally:
            await runner.cleanup()

    def write_kubeconfig(self, port: int, token: str) -> None:
        self.port = port
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))


def answers(body: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return answer


def with_connection(server: Server, use: Callable[[Connection, Heard], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with server() as heard:
            connection = Connection(server.kubeconfig, heard)
            await connection.open()
            try:
                return await use(connection, heard)
            finally:
                await connection.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def scene(
    server: Server, use: Callable[[Kube, Heard], Awaitable[Any]], may_write: Callable[[], None] = lambda: None
) -> Any:
    return with_connection(server, lambda connection, heard: use(Kube(connection, may_write), heard))


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("GET", "/apis/batch/v1/namespaces/ns/jobs/job", "get"),
        ("GET", "/apis/batch/v1/jobs?labelSelector=x", "list"),
        ("GET", "/api/v1/namespaces/ns/pods", "list"),
        ("GET", "/apis/batch/v1/jobs?watch=true", "watch"),
        ("GET", "/api/v1/namespaces/ns/pods/http:p:8080/proxy/progress", "get"),
        ("POST", "/apis/batch/v1/namespaces/ns/jobs", "create"),
        ("PATCH", "/apis/selfalign.dev/v1alpha1/namespaces/ns/selfalignmentruns/run/status", "patch"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l", "update"),
        ("DELETE", "/apis/batch/v1/namespaces/ns/jobs/job", "delete"),
    ],
)
def test_verbs_have_the_names_of_kubernetes(method: str, path: str, verb: str) -> None:
    assert verb_of(method, aiohttp.client.URL(f"https://k{path}")) == verb


def test_a_missing_object_is_none(tmp_path: Path) -> None:
    server = Server(tmp_path, answers({"kind": "Status", "reason": "NotFound"}, 404))
    assert scene(server, lambda kube, heard: kube.get(JOB, "ns", "job")) is None


@pytest.mark.parametrize("hours", [-2, 2])
def test_the_time_is_taken_from_whatever_the_apiserver_answers(tmp_path: Path, hours: int) -> None:
    there = datetime.now(UTC) + timedelta(hours=hours)
    server = Server(tmp_path, answers({}, 404, Date=format_datetime(there, usegmt=True)))

    async def use(connection: Connection) -> datetime:
        with pytest.raises(ApiError):
            await connection.call("GET", "/api/v1/namespaces/ns/pods/p")
        return connection.server_time.now()

    assert abs(with_connection(server, lambda connection, _: use(connection)) - there) < timedelta(seconds=30)


def test_an_error_has_code_reason_message_and_how_long_to_wait(tmp_path: Path) -> None:
    server = Server(
        tmp_path, answers({"reason": "TooManyRequests", "message": "slow down"}, 429, **{"Retry-After": "7"})
    )

    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError) as raised:
            await kube.create(JOB, "ns", {"metadata": {}})
        error = raised.value
        assert (error.code, error.reason, error.message, error.retry_after) == (
            429,
            "TooManyRequests",
            "slow down",
            7.0,
        )
        assert heard.answers == [("create", "429")]

    scene(server, use)


def test_an_answer_that_is_no_status_is_an_error_too(tmp_path: Path) -> None:
    async def gateway(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway")

    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError, match="bad gateway"):
            await kube.get(JOB, "ns", "job")

    scene(Server(tmp_path, gateway), use)


def test_no_answer_is_code_zero_and_counted_by_its_error(tmp_path: Path) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError) as raised:
            await kube.create(JOB, "ns", {"metadata": {}})
        assert raised.value.code == 0
        assert heard.answers == [("create", "ServerDisconnectedError")] * 4

    scene(Server(tmp_path, hang_up), use)


def fails_first(times: int, status: int) -> Answer:
    """So often this error, then success."""
    left = [None] * times

    async def answer(request: web.Request) -> web.StreamResponse:
        if left:
            left.pop()
            return web.json_response({"code": status}, status=status)
        return web.json_response({"metadata": {"uid": "uid-1"}})

    return answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_call_that_may_succeed_in_a_moment_is_made_again(tmp_path: Path, status: int) -> None:
    async def use(kube: Kube, heard: Heard) -> None:
        await kube.create(JOB, "ns", {"metadata": {}})
        assert heard.answers == [("create", str(status))] * 2 + [("create", "200")]

    scene(Server(tmp_path, fails_first(2, status)), use)


@pytest.mark.parametrize("status", [400, 403, 409, 422])
def test_a_refusal_is_not_asked_for_again(tmp_path: Path, status: int) -> None:
    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError):
            await kube.create(JOB, "ns", {"metadata": {}})
        assert heard.answers == [("create", str(status))]

    scene(Server(tmp_path, fails_first(2, status)), use)


def test_one_that_loses_the_lease_between_two_tries_does_not_write(tmp_path: Path) -> None:
    server = Server(tmp_path, fails_first(1, 500))

    def lead_once() -> None:
        if server.requests:
            raise NotLeader

    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(NotLeader):
            await kube.create(JOB, "ns", {"metadata": {}})

    scene(server, use, lead_once)
    assert len(server.requests) == 1


def test_a_slow_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign_operator.kube.client.WRITE_SECONDS", 0.1)

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError, match="TimeoutError"):
            await kube.create(JOB, "ns", {"metadata": {}})

    scene(Server(tmp_path, slow), use)


def test_one_that_may_not_write_sends_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, answers({}))

    def refuse() -> None:
        raise NotLeader

    async def use(kube: Kube, heard: Heard) -> None:
        for write in (
            kube.create(JOB, "ns", {"metadata": {}}),
            kube.replace(JOB, "ns", {"metadata": {"name": "j"}}),
            kube.apply_status(RUN, "ns", {"metadata": {"name": "r"}}),
            kube.delete(JOB, "ns", "j", "uid"),
        ):
            with pytest.raises(NotLeader):
                await write
        await kube.get(JOB, "ns", "j")

    scene(server, use, refuse)
    assert [request.method for request in server.requests] == ["GET"]


def test_an_apply_names_its_manager_and_takes_over(tmp_path: Path) -> None:
    server = Server(tmp_path, answers({}))
    manifest = {"metadata": {"name": "run", "resourceVersion": "5"}, "status": {"state": "Running"}}
    scene(server, lambda kube, heard: kube.apply_status(RUN, "ns", manifest))
    (request,) = server.requests
    assert request.path == "/apis/selfalign.dev/v1alpha1/namespaces/ns/selfalignmentruns/run/status"
    assert dict(request.query) == {"fieldManager": "selfalign-operator", "force": "true"}
    assert request.content_type == "application/apply-patch+yaml"
    assert json.loads(server.bodies[0]) == manifest


def test_a_deletion_is_of_that_very_object(tmp_path: Path) -> None:
    server = Server(tmp_path, fails_first(1, 409))
    scene(server, lambda kube, heard: kube.delete(JOB, "ns", "job", "uid-2"))
    body = json.loads(server.bodies[0])
    assert (body["preconditions"], body["propagationPolicy"]) == ({"uid": "uid-2"}, "Background")


def test_a_deletion_that_met_a_conflict_of_that_very_object_is_an_error(tmp_path: Path) -> None:
    async def use(kube: Kube, heard: Heard) -> None:
        with pytest.raises(ApiError):
            await kube.delete(JOB, "ns", "job", "uid-1")

    scene(Server(tmp_path, fails_first(1, 409)), use)


def test_pages_of_a_list_are_told(tmp_path: Path) -> None:
    server = Server(tmp_path, answers({"metadata": {}, "items": [{}, {}]}))

    async def use(kube: Kube, heard: Heard) -> None:
        _, session = await open_session(server.kubeconfig, heard)
        async with session:
            for query in ("", "?continue=x"):
                async with session.get(f"http://127.0.0.1:{server.port}/apis/batch/v1/jobs{query}") as response:
                    await response.json()
        assert heard.pages == [(Collection("jobs"), True, 2), (Collection("jobs"), False, 2)]

    scene(server, use)


def test_every_frame_of_a_watch_is_told_bookmarks_too(tmp_path: Path) -> None:
    async def watch(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b'{"type": "BOOKMARK", "object": {}}\n')
            await asyncio.sleep(0.02)
        return response

    async def use(kube: Kube, heard: Heard) -> None:
        _, session = await open_session(server.kubeconfig, heard)
        url = f"http://127.0.0.1:{server.port}/api/v1/namespaces/ns/pods?watch=true"
        async with session, session.get(url) as response:
            got = b"".join([data async for data in response.content.iter_chunked(1 << 20)])
        assert got.count(b"BOOKMARK") == 3
        assert len(heard.frames) >= 3
        assert set(heard.frames) == {Collection("pods", "ns")}

    server = Server(tmp_path, watch)
    scene(server, use)


def test_credentials_that_are_refused_are_read_anew(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        good = request.headers["Authorization"] == "Bearer second"
        return web.json_response({"items": []}, status=200 if good else 401)

    server = Server(tmp_path, answer)

    async def run() -> None:
        async with server() as heard:
            now = 0.0
            connection = Connection(server.kubeconfig, heard, clock=lambda: now)
            await connection.open()
            kube = Kube(connection, lambda: None)
            server.write_kubeconfig(server.port, "second")
            with pytest.raises(ApiError):
                await kube.list(POD, "ns")
            with pytest.raises(ApiError):  # not more often than that
                await kube.list(POD, "ns")
            now = 60.0
            with pytest.raises(ApiError):
                await kube.list(POD, "ns")
            assert await kube.list(POD, "ns") == []
            await connection.close()

    asyncio.run(run())


def test_no_way_to_a_cluster_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        asyncio.run(open_session(tmp_path / "none", Heard()))
    (tmp_path / "bad").write_text("current-context: c\n")
    with pytest.raises(ConfigError, match="give --kubeconfig FILE"):
        asyncio.run(open_session(tmp_path / "bad", Heard()))
