"""The apiserver's clock: every time of an object is its, so an age is taken by it and not by this machine's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["ServerClock"]

TOLERATED = timedelta(seconds=2)  # a header's seconds are whole, and an answer is on its way for a while


class ServerClock:
    """The time now as the apiserver's answers say it (header `Date`); this machine's while they agree, or say nothing."""

    def __init__(self, here: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._here = here
        self._ahead = timedelta(0)  # of the apiserver

    def heard(self, date: str | None) -> None:
        """An answer has come whose header is this; one that is no date says nothing."""
        try:
            there = parsedate_to_datetime(date or "")
        except ValueError:
            return
        if there.tzinfo is None:
            return
        ahead = there - self._here()
        if abs(ahead - self._ahead) > TOLERATED:
            self._ahead = ahead if abs(ahead) > TOLERATED else timedelta(0)

    def now(self) -> datetime:
        """The time there."""
        return self._here() + self._ahead
