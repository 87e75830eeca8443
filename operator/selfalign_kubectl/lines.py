"""A pod's log read again and again, each line once: pure, by the time that the kubelet gives each line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

Moment = tuple[int, int]  # seconds, nanoseconds

STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@dataclass
class Position:
    """How far a log was read: the newest time of a line, and how many lines with it."""

    moment: Moment | None = None
    lines: int = 0

    @property
    def since(self) -> str | None:
        """What to ask the kubelet for: it takes whole seconds, so some lines come again."""
        if self.moment is None:
            return None
        return datetime.fromtimestamp(self.moment[0], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unseen(lines: Iterator[bytes], position: Position) -> Iterator[bytes]:
    """Of the lines of a log, read with their times from anywhere before `position`, those after it, without times.

    `position` follows: whatever breaks off, the next call goes on where this one was.
    """
    left = position.lines  # with the time of the position
    for line in lines:
        stamp, space, text = line.partition(b" ")
        moment = moment_of(stamp) if space else None
        if moment is None:
            yield line  # a word of the kubelet's own
            continue
        if position.moment is not None and moment < position.moment:
            continue
        if moment == position.moment and left > 0:
            left -= 1
            continue
        if moment != position.moment:
            position.moment, position.lines, left = moment, 0, 0
        position.lines += 1
        yield text


def moment_of(stamp: bytes) -> Moment | None:
    """The time that a line begins with; None for what is none."""
    found = STAMP.fullmatch(stamp)
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat((found[1] + found[3]).decode())
    except ValueError:
        return None
    return int(whole.timestamp()), int((found[2] or b"0").ljust(9, b"0"))
