"""The whole process with Kopf, before a small apiserver over HTTP: starts, relists, restarts, stops."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import kopf
import pytest
from fake_apiserver import FakeApiserver
from fake_kube import run_object
from kopf._core.reactor.inventory import ResourceMemory
from one_job import OneJob

from selfalign_operator.process import OperatorProcess, Options

KEY = ("ns", "run")
EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", "message": "oh"}}
Use = Callable[["Scene"], Awaitable[None]]


class Scene:
    """A process beside its apiserver."""

    def __init__(self, folder: Path) -> None:
        self.apiserver = FakeApiserver(folder)
        self.options = Options(
            self.apiserver.kubeconfig, host="127.0.0.1", port=0, lease_namespace="ns", leader_election=False
        )
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.process = OperatorProcess(self.options, OneJob())
        self.running = asyncio.create_task(self.process.run())

    async def stop(self) -> None:
        assert self.running is not None
        self.process.stop()
        await self.running

    async def until(self, look: Callable[[], Any]) -> None:
        while not look():
            assert self.running is not None
            assert not self.running.done(), self.running
            await asyncio.sleep(0.01)

    def state(self, name: str = "run") -> str | None:
        key = ("apis/selfalign.dev/v1alpha1", "selfalignmentruns", "ns", name)
        status: dict[str, Any] = self.apiserver.objects[key].get("status", {})
        return status.get("state")


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Use], None]:
    def run(use: Use) -> None:
        async def scene() -> None:
            made = Scene(tmp_path)
            async with made.apiserver.serve():
                try:
                    await use(made)
                finally:
                    if made.running is not None and not made.running.done():
                        await made.stop()

        asyncio.run(asyncio.wait_for(scene(), 60))

    return run


def test_a_user_without_a_name_may_run_it(play: Callable[[Use], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nameless)

    async def use(scene: Scene) -> None:
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("jobs"))

    play(use)


def test_a_run_goes_from_nothing_to_complete(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("jobs"))
        scene.apiserver.put(run_object())
        await scene.until(lambda: scene.state() == "Running")
        job = scene.apiserver.objects["apis/batch/v1", "jobs", "ns", "run-one-1"]
        scene.apiserver.put(job | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}})
        await scene.until(lambda: scene.state() == "Complete")

    play(use)


def test_what_is_there_at_the_start_is_looked_at(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        for number in range(20):
            scene.apiserver.put(run_object(f"run-{number}"))
        scene.start()
        await scene.until(lambda: all(scene.state(f"run-{number}") == "Running" for number in range(20)))

    play(use)


def test_kopf_only_reads(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.apiserver.put(run_object(state="Complete"))
        scene.start()
        await scene.until(lambda: scene.process.queue.depth == 0 and scene.apiserver.watching("jobs"))
        assert {method for method, _ in scene.apiserver.requests} == {"GET"}

    play(use)


def test_after_a_relist_ghosts_are_gone_and_looked_at(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        for name in ("stays", "goes"):
            scene.apiserver.put(run_object(name))
        scene.start()
        await scene.until(lambda: len(scene.process.cache) == 2 and scene.state("stays") == "Running")
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns"))
        scene.apiserver.delete("selfalignmentruns", "ns", "goes", silent=True)
        scene.apiserver.say("selfalignmentruns", EXPIRED)
        await scene.until(lambda: len(scene.process.cache) == 1)
        await scene.until(lambda: scene.apiserver.watching("jobs"))
        scene.apiserver.delete("jobs", "ns", "stays-one-1", silent=True)
        scene.apiserver.say("jobs", EXPIRED)
        await scene.until(lambda: scene.state("stays") == "Failed")

    play(use)


def test_a_watch_that_fails_is_started_anew_and_nothing_is_missed(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns"))
        scene.apiserver.put(run_object(), silent=True)
        scene.apiserver.say("selfalignmentruns", BROKEN)
        await scene.until(lambda: scene.state() == "Running")

    play(use)


def alive(kind: type) -> int:
    """Objects of a kind, once all that is garbage is gone."""
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


def test_of_a_kopf_that_failed_nothing_is_kept(play: Callable[[Use], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign_operator.process.RESTART_SECONDS", (0.01,))

    async def use(scene: Scene) -> None:
        scene.start()
        for _ in range(4):
            await scene.until(
                lambda: scene.apiserver.watching("selfalignmentruns") and scene.apiserver.watching("jobs")
            )
            scene.apiserver.say("jobs", BROKEN)
            await scene.until(lambda: not scene.apiserver.watching("jobs"))
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns") and scene.apiserver.watching("jobs"))
        # Each Kopf has its own, and a connection may keep the last one's context.
        await scene.until(lambda: alive(kopf.OperatorSettings) <= 2)

    play(use)


def test_kopf_remembers_no_object(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("jobs"))
        for number in range(5):
            scene.apiserver.put(run_object(f"run-{number}"))
        await scene.until(lambda: all(scene.state(f"run-{number}") == "Running" for number in range(5)))
        await scene.until(lambda: alive(ResourceMemory) == 0)

    play(use)


def test_an_object_that_is_nonsense_stops_no_other(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        nonsense = run_object("nonsense")
        nonsense |= {"spec": ["x"], "status": "y"}
        scene.apiserver.put(nonsense)
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns"))
        scene.apiserver.put(nonsense | {"status": {"steps": 7}})
        scene.apiserver.put(run_object())
        await scene.until(lambda: scene.state() == "Running")

    play(use)


def test_it_waits_for_its_crd(play: Callable[[Use], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfalign_operator.process.WAIT_FOR_CRD_SECONDS", 0.05)

    async def use(scene: Scene) -> None:
        root = "apis/selfalign.dev/v1alpha1"
        scene.apiserver.served.discard(root)
        scene.start()
        await scene.until(lambda: scene.apiserver.requests.count(("GET", f"/{root}")) > 2)
        scene.apiserver.served.add(root)
        scene.apiserver.put(run_object())
        await scene.until(lambda: scene.state() == "Running")

    play(use)


def test_ray_jobs_are_watched_once_they_are_served(
    play: Callable[[Use], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfalign_operator.process.CHECK_KINDS_SECONDS", 0.05)

    async def use(scene: Scene) -> None:
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns"))
        assert not scene.apiserver.watching("rayjobs")
        scene.apiserver.served.add("apis/ray.io/v1")
        await scene.until(lambda: scene.apiserver.watching("rayjobs"))
        scene.apiserver.served.discard("apis/ray.io/v1")
        await scene.until(lambda: not scene.apiserver.watching("rayjobs"))
        await scene.until(lambda: scene.apiserver.watching("selfalignmentruns"))

    play(use)


def test_it_stops_at_once_and_leaves_no_task(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        before = asyncio.all_tasks()
        scene.start()
        await scene.until(lambda: scene.apiserver.watching("jobs"))
        began = asyncio.get_running_loop().time()
        await scene.stop()
        assert asyncio.get_running_loop().time() - began < 2
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task)]
        assert left == []

    play(use)


def test_it_stops_while_its_crd_is_awaited(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.apiserver.served.discard("apis/selfalign.dev/v1alpha1")
        scene.start()
        await scene.until(lambda: scene.apiserver.requests)
        began = asyncio.get_running_loop().time()
        await scene.stop()
        assert asyncio.get_running_loop().time() - began < 1

    play(use)


def test_a_lease_is_taken_and_released(play: Callable[[Use], None]) -> None:
    async def use(scene: Scene) -> None:
        scene.options = Options(scene.apiserver.kubeconfig, host="127.0.0.1", port=0, lease_namespace="ns")
        scene.start()
        scene.apiserver.put(run_object())
        await scene.until(lambda: scene.state() == "Running")
        lease = ("apis/coordination.k8s.io/v1", "leases", "ns", "selfalign-operator")
        assert scene.apiserver.objects[lease]["spec"]["holderIdentity"] == scene.process.identity
        await scene.stop()
        assert scene.apiserver.objects[lease]["spec"]["holderIdentity"] == ""

    play(use)
