"""Shares: how many rows each engine has, and whose unbegun rows go to an engine that would wait. Pure, as leases are.

No engine takes more than its equal part of the rows that are left, so that a table with fewer rows than one engine has
slots is made by all; and none has many more than its open flows, so that few rows wait behind one while another has
room. Those few are taken back once nothing else is left to hand out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from selfalign_jobs.generate.engine import EngineFacts
from selfalign_jobs.generate.in_flight import max_open_flows, rows_waiting
from selfalign_jobs.generate.leases import Lease, Leases

# An engine that loads has its share kept for so many times what the first one took, and so many seconds. When a later one
# comes, it gets what is left then.
LOADING_TIMES, LOADING_SECONDS = 2.0, 30.0


@dataclass(slots=True)
class _Engine:
    """An engine that is there."""

    open: int  # flows that it has open at once
    a_report: int = 0  # rows that it finishes between two words, at the most of late
    asked: bool = False  # to give rows back; it has not answered yet


@dataclass(slots=True)
class Deal:
    """What workers are to be told."""

    given: dict[str, list[Lease]] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)  # rows to give back that are not begun, at most


class Shares:
    """Deals the rows of `leases` to the engines that are there, and keeps a share for those that load.

    A worker's word costs as much with one worker as with many, until nothing is left to hand out.
    """

    def __init__(self, leases: Leases, workers: Sequence[str], now: float) -> None:
        self._leases = leases
        self._there: dict[str, _Engine] = {}
        self._loading = dict.fromkeys(workers, now)  # since when, longest first
        self._places = {worker: place for place, worker in enumerate(workers)}
        self._begun = now
        self._patience: float | None = None  # None until the first engine is there
        self._hungry: dict[str, None] = {}  # with room for more flows than there were rows, longest first
        self._stocked: dict[str, None] = {}  # with more rows than open flows when they last got any

    @property
    def any_there(self) -> bool:
        """Whether an engine is there."""
        return bool(self._there)

    def join(self, worker: str, facts: EngineFacts, now: float) -> None:
        """An engine is there."""
        if self._patience is None:
            self._patience = LOADING_TIMES * (now - self._begun) + LOADING_SECONDS
        self._loading.pop(worker, None)
        self._there[worker] = _Engine(max_open_flows(facts))

    def leave(self, worker: str, now: float) -> None:
        """An engine is gone; another loads in its place."""
        self._there.pop(worker, None)
        self._hungry.pop(worker, None)
        self._loading.pop(worker, None)
        self._loading[worker] = now

    def word(self, worker: str, finished: int, *, answers: bool) -> None:
        """A worker has finished so many rows since its last word; `answers`: and gave the rows back that it could."""
        if (engine := self._there.get(worker)) is not None:
            engine.a_report = max(finished, engine.a_report * 7 // 8)
            engine.asked = engine.asked and not answers

    def deal(self, worker: str | None, now: float) -> Deal:
        """After a worker's word (None: its end): rows for those that have too few, and for itself."""
        deal = Deal()
        names = list(self._hungry) if self._leases.waiting else []
        if worker is not None and worker not in names:
            names.append(worker)
        for number, name in enumerate(names):
            self._give(deal, name, -(-self._leases.waiting // (len(names) - number)), now)
        if self._hungry and self._stocked and not self._leases.waiting:
            self._ask_back(deal, now)
        return deal

    def _share(self, worker: str, now: float) -> int:
        """A worker's equal part of the rows that are left; those of all engines together are just these rows."""
        while self._patience is not None and self._loading:
            longest, since = next(iter(self._loading.items()))
            if since + self._patience > now:
                break
            del self._loading[longest]
        engines, rows = max(1, len(self._there) + len(self._loading)), self._leases.unfinished
        place = self._places[worker] % engines
        return max(1, rows * (place + 1) // engines - rows * place // engines)

    def _give(self, deal: Deal, worker: str, most: int, now: float) -> None:
        """Rows, at most so many, until an engine has enough to do till its next word is answered."""
        if (engine := self._there.get(worker)) is None:
            return
        self._hungry.pop(worker, None)
        share, held = self._share(worker, now), self._leases.held_by(worker)
        behind = 0 if self._hungry else rows_waiting(engine.a_report)
        full = min(engine.open + behind, share, held + most)
        while (lease := self._leases.take(worker, full - held, now)) is not None:
            deal.given.setdefault(worker, []).append(lease)
            held += len(lease.rows)
        if held > engine.open:
            self._stocked[worker] = None
        if held < min(engine.open, share):
            self._hungry[worker] = None

    def _ask_back(self, deal: Deal, now: float) -> None:
        """Ask workers with rows behind their open flows for them, as many workers as it takes to feed the hungry."""
        rooms = (
            min(self._there[name].open, self._share(name, now)) - self._leases.held_by(name) for name in self._hungry
        )
        wanted = sum(room for room in rooms if room > 0)
        for worker in list(self._stocked):
            if wanted <= 0:
                break
            engine = self._there.get(worker)
            spare = 0 if engine is None else self._leases.held_by(worker) - engine.open
            if engine is None or spare <= 0:
                del self._stocked[worker]
                continue
            if not engine.asked:
                engine.asked = True
                deal.back[worker] = spare
            wanted -= spare  # so many come, now or by an earlier word
