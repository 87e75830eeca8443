"""Each fault of the proxy is what its name says, as a client that never retries and the real apiserver see it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client

from testbed.administrator import api_client
from testbed.cluster import Cluster
from testbed.fault_proxy import FaultProxy, Faults
from testbed.waiting import until

CERTAIN = 1.0
STALL_SECONDS = 3.0


class Asking:
    """A client of the proxy: one connection a request, nothing is tried again."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        self._address = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self.maps = f"/api/v1/namespaces/{namespace}/configmaps"

    def send(self, method: str, path: str, body: Any = None, seconds: float = 10) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self._address.netloc, context=self._context, timeout=seconds)
        content = None if body is None else json.dumps(body)
        connection.request(method, path, body=content, headers={"Content-Type": "application/json"})
        return connection.getresponse()

    def create(self, name: str, query: str = "", seconds: float = 10) -> http.client.HTTPResponse:
        return self.send("POST", self.maps + query, {"metadata": {"name": name}}, seconds)

    def watch(self, seconds: float = 10) -> http.client.HTTPResponse:
        return self.send("GET", f"{self.maps}?watch=true", seconds=seconds)


def until_cut(answer: http.client.HTTPResponse) -> bytes:
    """What a stream says until its connection ends; a stream that ends well is none that was cut."""
    read = b""
    while True:
        try:
            more = answer.read1()
        except (http.client.IncompleteRead, ConnectionError, ssl.SSLError):
            return read
        assert more, "the stream has ended well"
        read += more


@pytest.fixture
def proxy(cluster: Cluster, tmp_path: Path) -> Iterator[FaultProxy]:
    plane = cluster.control_plane
    proxy = FaultProxy(plane.admin, plane.authority, tmp_path / "proxy")
    yield proxy
    proxy.close()


@pytest.fixture
def asking(proxy: FaultProxy, namespace: str) -> Asking:
    return Asking(proxy.kubeconfig, namespace)


@pytest.fixture
def arrived(cluster: Cluster, namespace: str) -> Callable[[str], bool]:
    """Whether the apiserver has a ConfigMap of that name, asked beside the proxy."""

    def look(name: str) -> bool:
        return any(each.metadata.name == name for each in cluster.core.list_namespaced_config_map(namespace).items)

    return look


def names(frame: bytes) -> tuple[str, str]:
    event = json.loads(frame)
    return event["type"], event["object"]["metadata"]["name"]


def frames_of(answer: http.client.HTTPResponse, name: str) -> list[tuple[str, str]]:
    """The frames of a watch up to the first about `name`, and the one after it when it is the same."""
    found = [names(answer.readline())]
    while found[-1][1] != name:
        found.append(names(answer.readline()))
    return found


def test_without_faults_nothing_is_changed(proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]) -> None:
    assert asking.create("a").status == 201
    assert arrived("a")
    assert asking.create("a").status == 409
    assert json.loads(asking.send("GET", f"{asking.maps}/a").read())["metadata"]["name"] == "a"
    assert not proxy.faults


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [("conflict", 409, "Conflict"), ("too_many", 429, "TooManyRequests"), ("error", 500, "InternalError")],
)
def test_a_refused_write_says_why_and_does_not_arrive(
    proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool], fault: str, code: int, reason: str
) -> None:
    proxy.set(Faults(**{fault: CERTAIN}))
    answer = asking.create("a")
    said = json.loads(answer.read())
    assert (answer.status, said["code"], said["reason"]) == (code, code, reason)
    assert answer.headers["Retry-After"] == ("1" if fault == "too_many" else None)
    assert not arrived("a")
    assert (proxy.calls, proxy.faults) == ([], {fault: 1})


def test_a_read_has_no_conflict(proxy: FaultProxy, asking: Asking) -> None:
    proxy.set(Faults(conflict=CERTAIN))
    assert asking.send("GET", asking.maps).status == 200


def test_a_cut_before_loses_the_request(proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]) -> None:
    proxy.set(Faults(cut_before=CERTAIN))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        asking.create("a")
    assert not arrived("a")
    assert proxy.calls == []


def test_a_cut_after_loses_the_answer_only(proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]) -> None:
    proxy.set(Faults(cut_after=CERTAIN))
    with pytest.raises((ConnectionError, ssl.SSLError)):
        asking.create("a")
    assert arrived("a")
    assert [(call.method, call.code) for call in proxy.calls] == [("POST", 201)]


def test_a_stalled_request_arrives_late(proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]) -> None:
    proxy.set(Faults(stall=CERTAIN, stall_seconds=STALL_SECONDS))
    begin = time.monotonic()
    assert asking.create("a").status == 201
    assert time.monotonic() - begin >= STALL_SECONDS


def test_a_stalled_request_arrives_although_its_client_has_left(
    proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]
) -> None:
    proxy.set(Faults(stall=CERTAIN, stall_seconds=STALL_SECONDS))
    with pytest.raises(TimeoutError):
        asking.create("a", seconds=STALL_SECONDS / 3)
    assert not arrived("a")
    until(lambda: arrived("a"), "late ConfigMap")


def test_a_watch_is_told_that_its_version_is_gone(proxy: FaultProxy, asking: Asking) -> None:
    proxy.set(Faults(gone=CERTAIN))
    answer = asking.watch()
    assert (answer.status, json.loads(answer.read())["reason"]) == (410, "Expired")
    assert asking.send("GET", asking.maps).status == 200


def test_a_watch_shows_each_frame_once(proxy: FaultProxy, asking: Asking) -> None:
    answer = asking.watch()
    asking.create("a")
    asking.create("b")
    found = frames_of(answer, "b")
    assert [frame for frame in found if frame[1] in ("a", "b")] == [("ADDED", "a"), ("ADDED", "b")]


def test_a_doubled_frame_comes_twice(proxy: FaultProxy, asking: Asking) -> None:
    answer = asking.watch()
    proxy.set(Faults(doubled=CERTAIN))
    asking.create("a")
    frames_of(answer, "a")
    assert names(answer.readline()) == ("ADDED", "a")


def test_a_slow_frame_comes_late(proxy: FaultProxy, asking: Asking) -> None:
    answer = asking.watch()
    proxy.set(Faults(slow=CERTAIN, slow_seconds=STALL_SECONDS))
    begin = time.monotonic()
    asking.create("a")
    frames_of(answer, "a")
    assert time.monotonic() - begin >= STALL_SECONDS


def test_a_stream_is_told_that_its_version_is_gone_and_ends(proxy: FaultProxy, asking: Asking) -> None:
    answer = asking.watch()
    proxy.set(Faults(expired=CERTAIN))
    asking.create("a")
    frames = answer.read().splitlines()  # to the end of the stream
    event = json.loads(frames[-1])
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert not any(b'"name":"a"' in frame for frame in frames)


def test_a_cut_watch_ends_within_a_frame(proxy: FaultProxy, asking: Asking) -> None:
    answer = asking.watch()
    proxy.set(Faults(watch_cut=CERTAIN))
    asking.create("a")
    read = until_cut(answer)
    assert read.startswith(b'{"type":')
    assert not read.endswith(b"\n")


def test_a_partition_is_silent_and_ends(proxy: FaultProxy, asking: Asking, arrived: Callable[[str], bool]) -> None:
    watch = asking.watch()
    proxy.block(lambda method, path: True)
    with pytest.raises(TimeoutError):
        asking.create("a", seconds=1)
    until_cut(watch)
    proxy.block(None)
    assert asking.create("b").status == 201
    assert not arrived("a")


def test_a_partition_may_be_of_some_paths(proxy: FaultProxy, asking: Asking) -> None:
    proxy.block(lambda method, path: method == "POST")
    with pytest.raises(TimeoutError):
        asking.create("a", seconds=1)
    assert asking.send("GET", asking.maps).status == 200


def test_writes_are_counted_and_dry_runs_and_reads_are_none(proxy: FaultProxy, asking: Asking) -> None:
    asking.create("a")
    asking.create("b", query="?dryRun=All")
    asking.send("GET", f"{asking.maps}/a")
    asking.send("DELETE", f"{asking.maps}/a")
    assert [(call.method, call.path) for call in proxy.calls if call.is_write] == [
        ("POST", asking.maps),
        ("DELETE", f"{asking.maps}/a"),
    ]


def test_a_seed_brings_the_same_faults_again(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    def codes(name: str, seed: int) -> list[int]:
        plane = cluster.control_plane
        proxy = FaultProxy(plane.admin, plane.authority, tmp_path / name, Faults(error=0.5), seed)
        asking = Asking(proxy.kubeconfig, namespace)
        found = [asking.send("GET", asking.maps).status for _ in range(20)]
        proxy.close()
        return found

    assert codes("first", seed=7) == codes("again", seed=7)
    assert set(codes("other", seed=8)) == {200, 500}


def test_a_client_library_goes_through_it(proxy: FaultProxy, namespace: str) -> None:
    core = client.CoreV1Api(api_client(proxy.kubeconfig))
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}})
    assert [call.code for call in proxy.calls if call.is_write] == [201]
