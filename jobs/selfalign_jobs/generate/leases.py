"""Leases: who works on which rows, and whose results count. Pure; the driver tells it the time.

Nothing here takes longer with more workers: the driver asks at every word of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from selfalign_jobs.generate.in_flight import UNIT_ROWS

LEASE_SECONDS = 300.0  # without a word from its holder a lease ends


@dataclass(slots=True)
class Lease:
    """Rows of one table handed to one worker, by number, less those whose records have come back."""

    number: int
    worker: str
    table: str
    rows: dict[int, None]  # an ordered set


@dataclass(slots=True)
class _Holder:
    """A worker that has rows out."""

    word: float  # when it last gave word, or got its first row
    rows: int
    leases: dict[int, Lease]


class Leases:
    """Hands out rows in small units and decides which results count.

    A result counts when it comes under the lease that its row is out under now. A lease ends when its worker is lost or
    silent for `LEASE_SECONDS`; what is left of its rows is handed out again, first of all, under a new number, as are
    rows that a worker gives back.
    """

    def __init__(self, done: Mapping[str, bytearray]) -> None:
        """`done`: by table, one mark a row, 0 for each that is to be run; tables are handed out in order."""
        self._fresh = deque((table, marks) for table, marks in done.items() if 0 in marks)
        self._next = 0  # where the first of these tables is read on
        self._returned: deque[tuple[str, int]] = deque()
        self._open: dict[int, Lease] = {}
        self._holders: dict[str, _Holder] = {}  # whose last word is longest ago first
        self._issued = 0
        self.waiting = sum(marks.count(0) for marks in done.values())  # rows that nobody has
        self.unfinished = self.waiting  # rows whose record has not come back

    def held_by(self, worker: str) -> int:
        """How many rows a worker still owes."""
        holder = self._holders.get(worker)
        return 0 if holder is None else holder.rows

    def take(self, worker: str, most: int, now: float) -> Lease | None:
        """The next rows for a worker, at most `most` and a unit; None when there is no row to hand out."""
        if self.waiting == 0 or most <= 0:
            return None
        table, rows = (
            self._returned_rows(min(most, UNIT_ROWS)) if self._returned else self._fresh_rows(min(most, UNIT_ROWS))
        )
        self._issued += 1
        lease = Lease(self._issued, worker, table, dict.fromkeys(rows))
        self._open[lease.number] = lease
        holder = self._holders.setdefault(worker, _Holder(now, 0, {}))
        holder.leases[lease.number] = lease
        holder.rows += len(rows)
        self.waiting -= len(rows)
        return lease

    def _returned_rows(self, most: int) -> tuple[str, list[int]]:
        table = self._returned[0][0]
        rows: list[int] = []
        while self._returned and self._returned[0][0] == table and len(rows) < most:
            rows.append(self._returned.popleft()[1])
        return table, rows

    def _fresh_rows(self, most: int) -> tuple[str, list[int]]:
        table, marks = self._fresh[0]
        rows: list[int] = []
        while len(rows) < most and (row := marks.find(0, self._next)) >= 0:
            rows.append(row)
            self._next = row + 1
        if marks.find(0, self._next) < 0:
            self._fresh.popleft()
            self._next = 0
        return table, rows

    def renew(self, worker: str, now: float) -> None:
        """The worker has given word: its leases run on."""
        if (holder := self._holders.pop(worker, None)) is not None:
            holder.word = now
            self._holders[worker] = holder

    def accept(self, number: int, row: int) -> bool:
        """Whether the record of a row, made under a lease, counts; it then counts once."""
        if self._take_out(number, row) is None:
            return False
        self.unfinished -= 1
        return True

    def give_back(self, number: int, row: int) -> None:
        """A worker has not begun a row that it has under a lease, and gives it back."""
        if (lease := self._take_out(number, row)) is not None:
            self._returned.append((lease.table, row))
            self.waiting += 1

    def _take_out(self, number: int, row: int) -> Lease | None:
        """The lease, if a row is out under it; it no longer is."""
        lease = self._open.get(number)
        if lease is None or row not in lease.rows:
            return None
        del lease.rows[row]
        holder = self._holders[lease.worker]
        holder.rows -= 1
        if not lease.rows:
            del self._open[number], holder.leases[number]
        if not holder.rows:
            del self._holders[lease.worker]
        return lease

    def drop(self, worker: str) -> None:
        """The worker is lost: its rows go back."""
        if (holder := self._holders.pop(worker, None)) is None:
            return
        for lease in holder.leases.values():
            del self._open[lease.number]
            self._returned.extend((lease.table, row) for row in lease.rows)
        self.waiting += holder.rows

    def silent(self, now: float) -> list[str]:
        """Workers whose leases have run out; the driver restarts and drops them."""
        found = []
        for worker, holder in self._holders.items():
            if holder.word + LEASE_SECONDS > now:
                break
            found.append(worker)
        return found
