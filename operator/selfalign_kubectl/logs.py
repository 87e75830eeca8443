"""The log of a run: its steps and attempts one after another, each line once, as long as it goes on.

An attempt's log is its pod's; of one whose pods are gone, or are KubeRay's, what was kept in the storage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.status import Status, StepStatus
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.lines import Position, unseen
from selfalign_kubectl.reader import read_run
from selfalign_kubectl.refusals import Call, Refused, Unreachable, in_words
from selfalign_kubectl.shown import trouble
from selfalign_operator.kube.resources import POD, RAY_JOB
from selfalign_operator.read import RAY_NODE, pod_view
from selfalign_operator.views import ATTEMPT_LABEL, COLLECT_LABEL, STEP_LABEL, UID_LABEL, PodView, RunView

POLL_SECONDS = 2.0
NO_LOG = (400, 404)  # answers for a container that has not started, for a pod that is gone


@dataclass(frozen=True)
class Piece:
    """An attempt, and its pods of the index that is meant, in the order of time."""

    step: str
    attempt: int
    over: bool  # no pod of it runs any more, or ever will
    by_ray: bool = False
    pods: tuple[PodView, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """Of the attempt in the run."""
        return self.step, self.attempt


def pieces_of(status: Status, pods: list[dict[str, Any]], step: str | None, index: int) -> list[Piece]:
    """All attempts in the order of the plan and of time; of one step, or of all."""
    found: dict[tuple[str, int], list[PodView]] = {}
    for raw in pods:
        view, labels = pod_view(raw), raw.get("metadata", {}).get("labels") or {}
        attempt = str(labels.get(ATTEMPT_LABEL, ""))
        if (
            view is None
            or view.index != index
            or not attempt.isdecimal()
            or COLLECT_LABEL in labels
            or RAY_NODE in labels
        ):
            continue  # the log of a pod of KubeRay's is Ray's, not the step's
        found.setdefault((str(labels.get(STEP_LABEL)), int(attempt)), []).append(view)
    return [
        Piece(
            each.name,
            number,
            over=_is_over(each, number),
            by_ray=each.workload is not None and each.workload.kind == RAY_JOB.kind,
            pods=_in_time(found.get((each.name, number), [])),
        )
        for each in status.steps
        if step in (None, each.name)
        for number in range(1, each.attempts + 1)
    ]


def _is_over(step: StepStatus, attempt: int) -> bool:
    return attempt < step.attempts or step.is_over or step.state == "Failed" or step.workload is None


def _in_time(pods: list[PodView]) -> tuple[PodView, ...]:
    return tuple(sorted(pods, key=lambda pod: (pod.created, pod.uid)))


def is_over(status: Status, step: str | None) -> bool:
    """Whether no further line can come without a person: the run, or the step that is meant, has ended."""
    if status.has_ended or status.state == "Held":
        return True
    found = None if step is None else status.step(step)
    return found is not None and found.is_over


@dataclass
class RunLog:
    """The log of one run. `say` gets what a person reads, `note` what is said beside it (why it waits)."""

    cluster: Cluster
    name: str
    step: str | None
    index: int
    look: Callable[[], RunView]
    say: Callable[[str], None]
    note: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    _positions: dict[str, Position] = field(default_factory=dict, init=False)  # by the pod's uid
    _read: set[str] = field(default_factory=set, init=False)  # uids whose log is over
    _done: set[tuple[str, int]] = field(default_factory=set, init=False)  # attempts whose log is over
    _kept: dict[tuple[str, int], str] = field(default_factory=dict, init=False)
    _asked: set[tuple[str, int]] = field(default_factory=set, init=False)  # attempts that the storage was asked for
    _shown: tuple[str, int] | None = field(default=None, init=False)
    _noted: str = field(default="", init=False)

    def tell(self) -> None:
        """What there is now. Raises ConfigError for a step that the run does not have."""
        run = self.look()
        self._refuse_unknown(run.status)
        for piece in self._pieces(run):
            if piece.pods:
                for pod in piece.pods:
                    self._say_pod(piece, pod, follow=False)
            elif piece.over or piece.by_ray:
                self._say_kept(run, piece)

    def follow(self) -> None:
        """From the beginning, as long as the run goes on. What does not answer is asked again."""
        while True:
            try:
                run = self.look()
                self._refuse_unknown(run.status)
                over = is_over(run.status, self.step)
                if all(self._followed(run, piece) for piece in self._pieces(run)) and over:
                    return
                self._note(trouble(run.status) or ("is suspended" if run.status.is_true("Suspended") else ""))
            except Unreachable as error:
                self._note(str(error))
            self.sleep(POLL_SECONDS)

    def _followed(self, run: RunView, piece: Piece) -> bool:
        """Say what of the attempt was not said; whether that was all of it."""
        if piece.key in self._done:
            return True
        if not piece.pods:
            if not piece.over:
                return False
            if self._shown != piece.key:
                self._say_kept(run, piece)
        elif not all(pod.uid in self._read or self._say_pod(piece, pod, follow=True) for pod in piece.pods):
            return False
        if piece.over:
            self._done.add(piece.key)
        return piece.over

    def _pieces(self, run: RunView) -> list[Piece]:
        pods = self.cluster.list(POD, labels=f"{UID_LABEL}={run.uid}")
        return pieces_of(run.status, pods, self.step, self.index)

    def _refuse_unknown(self, status: Status) -> None:
        if self.step is not None and status.step(self.step) is None and len(status.steps) > 1:
            names = ", ".join(step.name for step in status.steps)
            raise ConfigError.one("--step", f"is no step of {self.name}; there are {names}", self.step)

    def _say_pod(self, piece: Piece, pod: PodView, *, follow: bool) -> bool:
        """What of a pod's log was not said yet; whether its end has been seen."""
        position = self._positions.setdefault(pod.uid, Position())
        try:
            for line in unseen(self._lines(pod, position, follow=follow), position):
                self._say(piece, line.decode(errors="replace"))
        except Refused as refused:
            if refused.code not in NO_LOG:
                raise
            if refused.code == 404 or pod.exit_code is not None:
                self._read.add(pod.uid)  # gone
                return True
            self._note(f"{piece.step}, attempt {piece.attempt}: {refused.message}")
            return False
        if pod.phase in ("Succeeded", "Failed"):  # when it was listed: all of its log was there to be read
            self._read.add(pod.uid)
            return True
        return False

    def _lines(self, pod: PodView, position: Position, *, follow: bool) -> Iterator[bytes]:
        query = {"container": STEP_CONTAINER, "timestamps": "true"} | ({"follow": "true"} if follow else {})
        query |= {"sinceTime": position.since} if position.since is not None else {}
        return self.cluster.log(Call("get", POD, self.cluster.namespace, pod.name, "log"), query)

    def _say_kept(self, run: RunView, piece: Piece) -> None:
        """What was kept of an attempt whose pods are not there. All attempts are asked for at once, by one pod."""
        if piece.key not in self._asked:
            self._asked |= {(step.name, number) for step in run.status.steps for number in range(1, step.attempts + 1)}
            self._kept = self._read_kept(run)
        if text := self._kept.get(piece.key):
            self._say(piece, text)

    def _read_kept(self, run: RunView) -> dict[tuple[str, int], str]:
        found: dict[tuple[str, int], str] = {}
        try:
            for each in read_run(self.cluster, run, ("logs", *(("--of", self.step) if self.step else ())), self._note):
                if each["index"] == self.index:
                    key = (each["step"], each["attempt"])
                    found[key] = found.get(key, "") + each["text"]
        except Refused as refused:
            self._note(f"what was kept of earlier attempts cannot be read: {in_words(refused)}")
        except (ConfigError, Unreachable) as error:
            self._note(f"what was kept of earlier attempts cannot be read: {error}")
        return found

    def _say(self, piece: Piece, words: str) -> None:
        if self._shown != piece.key:
            self._shown = piece.key
            self.say(f"==> {piece.step}, attempt {piece.attempt} <==\n")
        self.say(words)

    def _note(self, words: str) -> None:
        if words and words != self._noted:
            self.note(f"{self.name}: {words}")
        self._noted = words
