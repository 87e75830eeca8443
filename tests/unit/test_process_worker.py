"""A worker: one turn after the other, refusals decided on, failures tried again, one run never stopping another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Any

import pytest
from fake_kube import FakeKube, job_object, run_object

from selfalign_api.status import PlanStatus, Status
from selfalign_operator.apply import Applier
from selfalign_operator.cache import Cache, Key
from selfalign_operator.decision import Decision
from selfalign_operator.effective import Frozen
from selfalign_operator.kube.client import ApiError, NotLeader
from selfalign_operator.metrics import Metrics
from selfalign_operator.observe import Observer
from selfalign_operator.progress import ProgressPoller
from selfalign_operator.queue import WorkQueue
from selfalign_operator.views import Observed, RunView
from selfalign_operator.worker import Worker

KEY = ("ns", "run")


class ScriptedMiddle:
    def __init__(self, decide: Callable[[Observed], Decision]) -> None:
        self.script = decide
        self.seen: list[Observed] = []

    def decide(self, observed: Observed) -> Decision:
        self.seen.append(observed)
        return self.script(observed)

    def claims(self, run: RunView, frozen: Frozen | None) -> Collection[str]:
        return ()

    def asks_for_labels(self, run: RunView, frozen: Frozen | None) -> bool:
        return False

    def frozen(self, config_map: dict[str, Any]) -> Frozen | str:
        return "is not read here"

    def frozen_of_status(self, plan: PlanStatus) -> Frozen | str:
        return "is gone"


class Scene:
    def __init__(self, decide: Callable[[Observed], Decision]) -> None:
        self.kube = FakeKube()
        self.cache = Cache()
        self.cache.put(self.kube.has(run_object()))
        self.queue: WorkQueue[Key] = WorkQueue(chance=lambda: 0.0)
        self.metrics = Metrics()
        self.middle = ScriptedMiddle(decide)
        self.leads = True
        kube: Any = self.kube
        self.worker = Worker(
            queue=self.queue,
            cache=self.cache,
            observer=Observer(kube, self.cache, self.middle, lambda key: None, lambda key: False, lambda: True),
            middle=self.middle,
            applier=Applier(kube, self.cache, "me"),
            progress=ProgressPoller(self.queue.add, self.kube),
            metrics=self.metrics,
            leads=lambda: self.leads,
        )

    def work(self, *keys: Key, until: Callable[[], bool]) -> None:
        """Let one worker work until that is so."""

        async def scene() -> None:
            for key in keys or (KEY,):
                self.queue.add(key)
            worker = asyncio.create_task(self.worker.run())
            while not until():
                assert not worker.done()
                await asyncio.sleep(0.001)
            self.queue.close()
            await worker

        asyncio.run(asyncio.wait_for(scene(), 20))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"selfalign_operator_{name}", labels) or 0.0


def job() -> dict[str, Any]:
    raw = job_object()
    del raw["metadata"]["uid"]
    return raw


def test_a_turn_observes_decides_and_applies() -> None:
    scene = Scene(lambda observed: Decision(status=Status(state="Running")))
    scene.work(until=lambda: bool(scene.kube.writes))
    assert scene.kube.writes == [("apply", "selfalignmentruns", "run")]


def test_it_looks_again_when_the_decision_says_so() -> None:
    scene = Scene(lambda observed: Decision(status=observed.run.status, look_again_seconds=0.01))
    scene.work(until=lambda: len(scene.middle.seen) >= 3)


def test_a_refusal_is_decided_on_once() -> None:
    def decide(observed: Observed) -> Decision:
        if observed.refusals:
            return Decision(status=Status(state="Held"))
        return Decision(status=Status(state="Running"), creations=(job(),))

    scene = Scene(decide)

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        if manifest["kind"] == "Job":
            raise ApiError(422, "Invalid", "spec.template: no")

    scene.kube.refuse = refuse
    scene.work(until=lambda: len(scene.kube.writes) >= 2)
    assert [refusal.message for refusal in scene.middle.seen[1].refusals] == ["spec.template: no"]
    run = scene.cache.run(KEY)
    assert run is not None
    assert run.status.state == "Held"


def test_an_error_is_tried_again_after_a_backoff_and_counted() -> None:
    scene = Scene(lambda observed: Decision(status=Status(state="Running")))
    failures = iter([True, True])

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        if next(failures, False):
            raise ApiError(500, "InternalError", "etcd is slow")

    scene.kube.refuse = refuse
    scene.work(until=lambda: scene.kube.objects["selfalignmentruns", *KEY].get("status") != {})
    assert scene.count("reconcile_errors_total", reason="InternalError") == 2


def test_a_conflict_reads_the_run_before_the_next_try() -> None:
    scene = Scene(lambda observed: Decision(status=Status(state="Running")))
    scene.kube.has(run_object())  # changed, and no watch has said so
    scene.work(until=lambda: scene.kube.objects["selfalignmentruns", *KEY].get("status") != {})
    assert [call[0] for call in scene.kube.calls] == ["apply", "get", "apply"]


def test_a_mistake_of_the_middle_stops_no_other_run() -> None:
    def decide(observed: Observed) -> Decision:
        if observed.run.name == "run":
            raise ZeroDivisionError
        return Decision(status=Status(state="Running"))

    scene = Scene(decide)
    scene.cache.put(scene.kube.has(run_object("other")))
    scene.work(KEY, ("ns", "other"), until=lambda: bool(scene.kube.writes))
    assert scene.kube.writes == [("apply", "selfalignmentruns", "other")]
    assert scene.count("reconcile_errors_total", reason="ZeroDivisionError") >= 1


def test_one_that_does_not_lead_does_nothing() -> None:
    scene = Scene(lambda observed: Decision(status=Status(state="Running")))
    scene.leads = False
    scene.work(until=lambda: scene.queue.depth == 0)
    assert scene.kube.calls == []


def test_a_lost_leadership_is_no_error() -> None:
    scene = Scene(lambda observed: Decision(status=Status(state="Running")))

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        raise NotLeader

    scene.kube.refuse = refuse
    scene.work(until=lambda: bool(scene.middle.seen))
    assert scene.queue.depth == 0
    assert scene.count("reconcile_errors_total", reason="NotLeader") == 0


def test_a_run_that_is_gone_is_forgotten() -> None:
    scene = Scene(lambda observed: Decision(status=observed.run.status))
    scene.work(("ns", "gone"), until=lambda: scene.queue.depth == 0)
    assert scene.middle.seen == []


@pytest.mark.parametrize("state", ["Succeeded", "Reused", "Failed"])
def test_a_step_that_ended_is_counted_once(state: Any) -> None:
    times = {"startTime": "2026-11-24T10:00:00Z", "completionTime": "2026-11-24T10:01:00Z"}
    step = {"name": "i1-train", "kind": "train", "iteration": 1, "state": state} | times
    ended = Status.model_validate_json(json.dumps({"steps": [step]}))
    scene = Scene(lambda observed: Decision(status=ended, look_again_seconds=0.005))
    scene.work(until=lambda: len(scene.middle.seen) > 3)
    assert scene.count("steps_total", kind="train", result=state) == 1
    seconds = scene.count("step_duration_seconds_sum", kind="train")
    assert seconds == (60 if state == "Succeeded" else 0)
