"""Leases: who works on which rows, and whose results count. Pure; the driver tells it the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from selfalign_jobs.generate.in_flight import UNIT_ROWS

LEASE_SECONDS = 300.0  # without a word from its holder a lease ends


@dataclass(slots=True)
class Lease:
    """Rows of one table handed to one worker, by number, less those whose records have come back."""

    number: int
    worker: str
    table: str
    rows: dict[int, None]  # an ordered set
    expires: float


class Leases:
    """Hands out rows in small units and decides which results count.

    A result counts when it comes under the lease that its row is out under now. A lease ends when its worker is lost or
    silent for `LEASE_SECONDS`; what is left of its rows is handed out again, first of all, under a new number.
    """

    def __init__(self, rows: Mapping[str, Iterator[int]]) -> None:
        """`rows`: numbers of the rows to run, by table; tables are handed out in order."""
        self._fresh = deque(rows.items())
        self._returned: deque[tuple[str, list[int]]] = deque()
        self._open: dict[int, Lease] = {}
        self._issued = 0

    def held_by(self, worker: str) -> int:
        """How many rows a worker still owes."""
        return sum(len(lease.rows) for lease in self._open.values() if lease.worker == worker)

    def take(self, worker: str, now: float) -> Lease | None:
        """The next unit for a worker; None when no row is left to hand out."""
        unit = self._returned.popleft() if self._returned else self._next_unit()
        if unit is None:
            return None
        table, rows = unit
        self._issued += 1
        lease = Lease(self._issued, worker, table, dict.fromkeys(rows), now + LEASE_SECONDS)
        self._open[lease.number] = lease
        return lease

    def _next_unit(self) -> tuple[str, list[int]] | None:
        while self._fresh:
            table, rows = self._fresh[0]
            unit = list(islice(rows, UNIT_ROWS))
            if unit:
                return table, unit
            self._fresh.popleft()
        return None

    def renew(self, worker: str, now: float) -> None:
        """The worker has given word: its leases run on."""
        for lease in self._open.values():
            if lease.worker == worker:
                lease.expires = now + LEASE_SECONDS

    def accept(self, number: int, row: int) -> bool:
        """Whether the record of a row, made under a lease, counts; it then counts once."""
        lease = self._open.get(number)
        if lease is None or row not in lease.rows:
            return False
        del lease.rows[row]
        if not lease.rows:
            del self._open[number]
        return True

    def drop(self, worker: str) -> None:
        """The worker is lost: its rows go back."""
        for lease in [lease for lease in self._open.values() if lease.worker == worker]:
            del self._open[lease.number]
            self._returned.append((lease.table, list(lease.rows)))

    def silent(self, now: float) -> set[str]:
        """Workers that hold a lease which has run out; the driver restarts and drops them."""
        return {lease.worker for lease in self._open.values() if lease.expires <= now}
