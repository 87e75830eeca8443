"""Times of the API: RFC 3339 in UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["parse_time", "seconds_since", "time_text"]


def time_text(moment: datetime) -> str:
    """`2026-11-24T10:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> datetime | None:
    """The moment that `time_text` wrote; None for what it did not (a status may be edited by hand)."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def seconds_since(text: str | None, now: datetime) -> float | None:
    """Seconds from then to now, never negative; None without a readable time."""
    moment = parse_time(text)
    return None if moment is None else max(0.0, (now - moment).total_seconds())
