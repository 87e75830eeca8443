"""Event files for TensorBoard, in the step's folder: `tensorboard --logdir RUN` shows each step that has some by its path.

Each attempt has a file of its own. It begins by telling TensorBoard to forget what earlier ones have from there on, and writes
those of their points that count again. A step never fails for it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfalign_jobs.places.store import Folder
from selfalign_jobs.step.points import Point

PREFIX = "events"  # .out.tfevents.TIME.HOST.ATTEMPT


class Events:
    """The event file of an attempt. In a folder of this machine it grows while others read; to a bucket it goes at the end."""

    def __init__(self, folder: Folder, attempt: int) -> None:
        """Nothing is written before the first points come."""
        self._folder, self._attempt = folder, attempt
        self._writer: Any = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._lost = False  # it could not be written, which was told

    def add(self, points: Iterable[Point]) -> None:
        """Write points, at once."""
        try:
            if not self._lost:
                self._add(points)
        except (OSError, ImportError) as error:  # also in an image of the user's own
            self._lose(error)

    def close(self) -> None:
        """No more come: the file is where it should be."""
        if self._writer is None or self._lost:
            return
        try:
            self._writer.close()
            if self._scratch is not None:
                (file,) = Path(self._scratch.name).iterdir()
                self._folder.write(file.name, file.read_bytes())
        except OSError as error:
            self._lose(error)

    def _add(self, points: Iterable[Point]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for point in points:
            if self._writer is None:
                self._open(point)
            summary = Summary(value=[Summary.Value(tag=point.name, simple_value=point.value)])
            self._writer.write_event(Event(wall_time=point.at, step=point.step, summary=summary))
        if self._writer is not None:
            self._writer.flush()

    def _open(self, first: Point) -> None:
        # Not its SummaryWriter, which writes from a thread, by a queue between processes, when it likes.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        place = self._folder.local
        if place is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="selfalign-events-")
            place = Path(self._scratch.name)
        place.mkdir(parents=True, exist_ok=True)
        # Readers go on to names that sort later: those have the time, in seconds.
        self._writer = EventsWriter(str(place / PREFIX), f".{self._attempt:05}")
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=first.at, step=first.step, session_log=start))

    def _lose(self, error: Exception) -> None:
        self._lost = True
        print(f"no more events for TensorBoard can be written: {error}", file=sys.stderr, flush=True)
