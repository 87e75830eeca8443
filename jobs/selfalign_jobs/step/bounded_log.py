"""The beginning and the end of a log of any length, line by line, without secrets and without what a bar has overwritten."""

from __future__ import annotations

from collections import deque

from selfalign_jobs.step.redaction import Redaction

HEAD_BYTES, TAIL_BYTES = 256 << 10, 768 << 10
LINE_BYTES = 16 << 10


class BoundedLog:
    """Takes bytes in pieces of any size; `content` is at most about a megabyte."""

    def __init__(
        self, redaction: Redaction, head: int = HEAD_BYTES, tail: int = TAIL_BYTES, line: int = LINE_BYTES
    ) -> None:
        self._redaction = redaction
        self._head_room, self._tail_room, self._line = head, tail, line
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out = 0  # bytes
        self._whole = False  # whether the head is full
        self._rest = b""  # the line that goes on
        self._cut = False  # whether it is too long

    def add(self, data: bytes) -> None:
        """What was written."""
        while data:
            part, end, data = data.partition(b"\n")
            self._extend(part)
            if end:
                self._take()

    def end(self) -> None:
        """Nothing more comes: a line without an end is a line too."""
        if self._rest:
            self._take()

    @property
    def content(self) -> bytes:
        """What is kept of the lines that have ended."""
        middle = [f"… {self._left_out} bytes are left out here …\n".encode()] if self._left_out else []
        return b"".join((*self._head, *middle, *self._tail))

    def _extend(self, part: bytes) -> None:
        if self._cut:
            return
        line = _since_return(self._rest + part)
        limit = self._line + 2 * self._redaction.longest
        self._cut = len(line) > limit
        self._rest = line[:limit]

    def _take(self) -> None:
        """The line has ended."""
        line = self._redaction.of(self._rest.rstrip(b"\r"))
        if self._cut:
            line = line[: max(0, len(line) - self._redaction.longest)]  # it may end within a secret
        self._rest, self._cut = b"", False
        self._keep((line if len(line) <= self._line else line[: self._line] + "…".encode()) + b"\n")

    def _keep(self, line: bytes) -> None:
        if not self._whole and len(line) <= self._head_room:
            self._head_room -= len(line)
            self._head.append(line)
            return
        self._whole = True
        self._tail.append(line)
        self._tail_bytes += len(line)
        while self._tail_bytes > self._tail_room and len(self._tail) > 1:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone)
            self._left_out += len(gone)


def _since_return(line: bytes) -> bytes:
    """What a terminal shows of a line: a bar of progress begins it anew."""
    before, mark, last = line.rpartition(b"\r")
    return last if last or not mark else before.rstrip(b"\r").rpartition(b"\r")[2] + mark
