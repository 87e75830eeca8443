"""`kubectl selfalign logs -f` over a run whose states are told one after the other: attempts, replaced pods, breaks, kept logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_kubectl_shown import condition, view

from selfalign_api.errors import ConfigError
from selfalign_api.status import Status, StepStatus, WorkloadRef
from selfalign_kubectl import logs
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.logs import RunLog
from selfalign_kubectl.refusals import Call, Refused, Unreachable
from selfalign_operator.kube.resources import POD, Resource
from selfalign_operator.views import ATTEMPT_LABEL, STEP_LABEL, RunView

JOB = WorkloadRef(api_version="batch/v1", kind="Job", name="j", uid="u")
ENDED = condition("Complete", "True", "AllStepsDone")


@dataclass
class Moment:
    """How a run is at one look: attempts by step (the last one of a running step goes on), its pods with phase and log."""

    attempts: dict[str, int]
    pods: dict[str, tuple[str, int, str, str]]  # name -> step, attempt, phase, log so far
    running: str | None = None
    complete: bool = False
    breaks: str | None = None  # the pod whose log breaks off after its first line

    @property
    def run(self) -> RunView:
        steps = tuple(
            StepStatus(
                name=name,
                kind="generate",
                state="Running" if name == self.running else "Succeeded",
                attempts=number,
                workload=JOB,
            )
            for name, number in self.attempts.items()
        )
        return view(Status(steps=steps, state="Running", conditions=(ENDED,) if self.complete else ()))


@dataclass
class Told(Cluster):
    """A cluster at one moment after the other."""

    moments: list[Moment]
    kept: dict[tuple[str, int], str] = field(default_factory=dict)
    read: int = 0  # how often the storage was

    def __post_init__(self) -> None:
        self.namespace, self.given = "team", False
        self.here = self.moments[0]

    def look(self) -> RunView:
        self.here = self.moments.pop(0) if len(self.moments) > 1 else self.moments[0]
        return self.here.run

    def list(self, resource: Resource, **_: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        assert resource == POD
        return [
            {
                "metadata": {"name": name, "uid": name, "labels": {STEP_LABEL: step, ATTEMPT_LABEL: str(attempt)}},
                "status": {"phase": phase},
            }
            for name, (step, attempt, phase, _) in self.here.pods.items()
        ]

    def log(self, call: Call, query: Mapping[str, str]) -> Iterator[bytes]:
        assert query["timestamps"] == "true"
        assert call.name is not None
        if call.name not in self.here.pods:
            raise Refused(call, 404, "NotFound", "gone", True)
        _, _, phase, text = self.here.pods[call.name]
        if phase == "Pending":
            raise Refused(call, 400, "BadRequest", "ContainerCreating", True)
        for number, letter in enumerate(text):
            yield f"2026-11-29T09:00:0{number}Z {letter}\n".encode()
            if self.here.breaks == call.name:
                raise Unreachable("it broke off")


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_run(cluster: Told, run: RunView, what: tuple[str, ...], note: Any) -> Any:
        cluster.read += 1
        if not cluster.kept:
            raise ConfigError.one("my-run", "has nothing")
        return [{"step": s, "attempt": n, "index": 0, "text": text} for (s, n), text in cluster.kept.items()]

    monkeypatch.setattr(logs, "read_run", read_run)


def followed(cluster: Told, step: str | None = None, follow: bool = True) -> tuple[str, list[str]]:
    said: list[str] = []
    notes: list[str] = []
    log = RunLog(cluster, "my-run", step, 0, cluster.look, said.append, notes.append, sleep=lambda _: None)
    (log.follow if follow else log.tell)()
    return "".join(said), notes


ONE, TWO, NEXT = "==> a, attempt 1 <==\n", "==> a, attempt 2 <==\n", "==> b, attempt 1 <==\n"


def test_a_log_that_breaks_off_goes_on_with_the_next_line() -> None:
    moments = [
        Moment({"a": 1}, {"p": ("a", 1, "Pending", "")}, "a"),
        Moment({"a": 1}, {"p": ("a", 1, "Running", "xy")}, "a", breaks="p"),
        Moment({"a": 1}, {"p": ("a", 1, "Running", "xyz")}, "a"),
        Moment({"a": 1}, {"p": ("a", 1, "Succeeded", "xyzw")}, complete=True),
    ]
    said, notes = followed(Told(moments))
    assert said == ONE + "x\ny\nz\nw\n"
    assert notes == ["my-run: a, attempt 1: ContainerCreating", "my-run: it broke off"]


def test_a_lost_attempt_a_replaced_pod_and_the_next_step_follow_one_another() -> None:
    lost = {"p": ("a", 1, "Failed", "xy")}
    two = {"q": ("a", 2, "Failed", "12"), "r": ("a", 2, "Running", "3")}
    done = {"q": ("a", 2, "Failed", "12"), "r": ("a", 2, "Succeeded", "34")}
    moments = [
        Moment({"a": 1}, {"p": ("a", 1, "Running", "x")}, "a"),
        Moment({"a": 2}, lost, "a"),
        Moment({"a": 2}, lost | two, "a"),
        Moment({"a": 2, "b": 1}, lost | done | {"s": ("b", 1, "Running", "!")}, "b"),
        Moment({"a": 2, "b": 1}, lost | done | {"s": ("b", 1, "Succeeded", "!?")}, complete=True),
    ]
    cluster = Told(moments)
    assert followed(cluster)[0] == ONE + "x\ny\n" + TWO + "1\n2\n3\n4\n" + NEXT + "!\n?\n"
    assert cluster.read == 0


def test_what_was_kept_stands_where_pods_are_gone_and_is_read_once() -> None:
    kept = {("a", 1): "old\n", ("a", 2): "newer\n"}
    pods = {"s": ("b", 1, "Succeeded", "!")}
    for follow in (True, False):
        cluster = Told([Moment({"a": 2, "b": 1}, pods, complete=True)], dict(kept))
        assert followed(cluster, follow=follow)[0] == ONE + "old\n" + TWO + "newer\n" + NEXT + "!\n"
        assert cluster.read == 1


def test_a_pod_that_goes_while_it_is_followed_is_told_no_second_time() -> None:
    moments = [
        Moment({"a": 1}, {"p": ("a", 1, "Running", "xy")}, "a"),
        Moment({"a": 2}, {"q": ("a", 2, "Succeeded", "z")}, complete=True),
    ]
    cluster = Told(moments, {("a", 1): "x\ny\n"})
    assert followed(cluster)[0] == ONE + "x\ny\n" + TWO + "z\n"
    assert cluster.read == 0


def test_a_storage_that_cannot_be_read_is_noted_and_the_rest_is_told() -> None:
    moment = Moment({"a": 1, "b": 1}, {"s": ("b", 1, "Succeeded", "!")}, complete=True)
    said, notes = followed(Told([moment]), follow=False)
    assert said == NEXT + "!\n"
    assert notes == ["my-run: what was kept of earlier attempts cannot be read: my-run: has nothing"]


def test_following_a_step_ends_when_it_is_done_though_the_run_goes_on() -> None:
    moments = [
        Moment({"a": 1}, {"p": ("a", 1, "Running", "x")}, "a"),
        Moment({"a": 1, "b": 1}, {"p": ("a", 1, "Succeeded", "xy"), "s": ("b", 1, "Running", "!")}, "b"),
    ]
    assert followed(Told([*moments]), step="a")[0] == ONE + "x\ny\n"
    with pytest.raises(ConfigError, match="there are a, b"):
        followed(Told([moments[1]]), step="c")
