"""The progress poller, against a real HTTP server; and what it makes of anything that a pod may answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.step.progress import Progress
from selfalign_operator.cache import Key
from selfalign_operator.progress import LIMIT_BYTES, ProgressPoller, parse_progress

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
KEY = ("ns", "run")
OTHER: Key = ("ns", "other")


def body(**fields: Any) -> bytes:
    whole = {"step": "s", "phase": "work", "done": 3, "total": 10, "unit": "records", "perSecond": 1.5} | fields
    return json.dumps(whole).encode()


def test_what_a_step_program_shows_is_read() -> None:
    progress = Progress("i1-train")
    progress.begin("train", 100, "steps")
    progress.advance(7)
    view = parse_progress(json.dumps(progress.snapshot()).encode(), NOW)
    assert (view.done, view.total, view.unit, view.phase) == (7, 100, "steps", "train")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 60_000,
        b'{"done": 1' + b"0" * 5000 + b"}",
        body(done=-1),
        body(done="3"),
        body(done=True),
        body(done=1e3),
        body(total=None),
        body(unit=""),
        body(unit="x" * 65),
        body(phase="a\nb"),
        body(perSecond="fast"),
        body(perSecond=float("nan")),
        body(perSecond=float("inf")),
        b"\xff\xfe",
    ],
)
def test_what_no_step_program_shows_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_progress(content, NOW)


@given(
    st.binary(max_size=50)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_progress(content, NOW)


class Pod:
    """Serves one answer after the other, the last one for ever."""

    def __init__(self, *answers: Callable[[], Awaitable[web.Response]] | bytes) -> None:
        self.answers = list(answers)
        self.queries: list[str] = []  # of the questions, in their order

    @property
    def asked(self) -> int:
        return len(self.queries)

    async def handle(self, request: web.Request) -> web.Response:
        self.queries.append(request.query_string)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(body=answer) if isinstance(answer, bytes) else await answer()


def poll(pod: Pod, use: Callable[[ProgressPoller, str, list[Key]], Awaitable[None]]) -> None:
    async def run() -> None:
        app = web.Application()
        app.router.add_get("/progress", pod.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        enqueued: list[Key] = []
        clock = iter(NOW + timedelta(seconds=second) for second in range(10_000))
        nobody: Any = None  # an address needs no look-up
        poller = ProgressPoller(enqueued.append, nobody, now=lambda: next(clock), every_seconds=0.01)
        try:
            await use(poller, f"http://127.0.0.1:{runner.addresses[0][1]}/progress", enqueued)
        finally:
            await poller.close()
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(run(), 30))


async def until(look: Callable[[], Any]) -> None:
    while not look():
        await asyncio.sleep(0.002)


def test_progress_that_moves_enqueues_the_run_and_standing_still_does_not() -> None:
    pod = Pod(body(done=1), body(done=1), body(done=2), body(done=2))

    async def use(poller: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        poller.watch(KEY, url)
        await until(lambda: pod.asked > 6)
        view = poller.view(KEY)
        assert view is not None
        assert view.done == 2
        assert view.changed_at < view.read_at
        assert enqueued == [KEY, KEY]

    poll(pod, use)


def test_the_last_value_stands_while_a_pod_does_not_answer() -> None:
    async def broken() -> web.Response:
        return web.Response(status=500)

    pod = Pod(body(done=5), broken, b"nonsense", body() + b" " * LIMIT_BYTES)

    async def use(poller: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        poller.watch(KEY, url)
        await until(lambda: pod.asked > 6)
        view = poller.view(KEY)
        assert view is not None
        assert (view.done, view.read_at) == (5, NOW)

    poll(pod, use)


def test_a_pod_that_never_answers_is_asked_less_and_less_and_told_of_once() -> None:
    """Each try asks the apiserver where it is; a mesh or a NetworkPolicy may never let it through."""

    async def closed() -> web.Response:
        return web.Response(status=503)

    pod = Pod(*[closed] * 4, body(done=5), closed)

    async def use(poller: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        poller.watch(KEY, url)
        await until(lambda: pod.asked > 3)
        assert (poller.unread(KEY), poller.unreadable(), enqueued) == (True, 1, [KEY])
        await until(lambda: poller.view(KEY))
        assert (poller.unread(KEY), poller.unreadable()) == (False, 0)

    poll(pod, use)


@given(st.integers(1, 10_000))
def test_the_wait_for_a_pod_that_does_not_answer_doubles_up_to_five_minutes(misses: int) -> None:
    nobody: Any = None
    poller = ProgressPoller(lambda key: None, nobody)
    waits = [poller._miss(KEY) for _ in range(min(misses, 12))]
    assert waits == [min(15.0 * 2**number, 300.0) for number in range(len(waits))]


def test_a_pod_that_redirects_is_not_followed() -> None:
    async def away() -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/")

    pod = Pod(away)

    async def use(poller: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        poller.watch(KEY, url)
        await until(lambda: pod.asked > 2)
        assert poller.view(KEY) is None

    poll(pod, use)


def test_another_attempt_begins_without_the_last_ones_progress_and_a_step_that_ended_is_asked_no_more() -> None:
    pod = Pod(body(done=5))

    async def use(poller: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        poller.watch(KEY, url)
        await until(lambda: poller.view(KEY))
        poller.watch(KEY, url + "?attempt=2")
        assert poller.view(KEY) is None
        await until(lambda: poller.view(KEY))
        poller.watch(KEY, None)
        assert poller.view(KEY) is None
        poller.watch(OTHER, url + "?other")
        await until(lambda: pod.queries.count("other") > 3)  # a question that was on its way has come by then
        asked = pod.queries.count("attempt=2")
        await until(lambda: pod.queries.count("other") > 6)
        assert (poller.view(KEY), pod.queries.count("attempt=2")) == (None, asked)

    poll(pod, use)


class Proxy:
    """What the poller needs of Kube: where index 0 is, and its answer through the apiserver."""

    def __init__(self, *addresses: str) -> None:
        self.paths: list[str] = []
        self.addresses = list(addresses)  # of index 0, look-up by look-up

    async def list(self, resource: Any, namespace: str, *, labels: str = "") -> list[dict[str, Any]]:
        assert labels == "batch.kubernetes.io/job-name=run-0a-i1-train-1"
        index = "batch.kubernetes.io/job-completion-index"
        return [
            {
                "metadata": {"name": f"p{n}", "uid": "u", "labels": {index: str(n)}},
                "status": status | {"phase": "Running"},
            }
            for n, status in ((1, {}), (0, {"podIP": self.addresses.pop(0)} if self.addresses else {}))
        ]

    async def fetch(self, path: str, *, seconds: float, limit: int) -> bytes:
        self.paths.append(path)
        return body()


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("run-0a-i1-train-1-0.run-0a", "pods/http:p0:8080"),
        ("run-0a-i1-generate-1-head-svc", "services/http:run-0a-i1-generate-1-head-svc:8080"),
    ],
)
def test_outside_of_a_cluster_it_asks_through_the_apiserver(host: str, path: str) -> None:
    async def run() -> None:
        proxy: Any = Proxy()
        poller = ProgressPoller(lambda key: None, proxy, through_apiserver=True, every_seconds=0.01)
        poller.watch(KEY, f"http://{host}.ns.svc:8080/progress")
        await until(lambda: poller.view(KEY))
        assert proxy.paths[0] == f"/api/v1/namespaces/ns/{path}/proxy/progress"
        await poller.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_in_a_cluster_index_0_is_asked_at_the_address_of_its_pod_and_looked_up_again_when_it_is_gone() -> None:
    pod = Pod(body(done=4))

    async def use(_: ProgressPoller, url: str, enqueued: list[Key]) -> None:
        port = url.split(":")[2].split("/")[0]
        kube: Any = Proxy("127.0.0.2", "127.0.0.1")  # nobody listens at the first
        poller = ProgressPoller(enqueued.append, kube, every_seconds=0.01)
        poller.watch(KEY, f"http://run-0a-i1-train-1-0.run-0a.ns.svc:{port}/progress")
        await until(lambda: pod.asked > 3)
        assert (kube.addresses, kube.paths) == ([], [])
        await poller.close()

    poll(pod, use)
