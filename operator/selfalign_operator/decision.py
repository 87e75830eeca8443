"""What the pure middle says: the changes that bring a run nearer to what it should be, and its status then.

Order of application, so that a kill between any two lines loses nothing and repeats nothing: dry runs, creations
(names are fixed, so a repeated one meets AlreadyExists), the status, deletions, events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfalign_api.status import Status
from selfalign_operator.reasons import EventReason
from selfalign_operator.views import Manifest


@dataclass(frozen=True)
class Deletion:
    """An object to delete, only while it has this uid."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class RunEvent:
    """An Event about the run."""

    type: Literal["Normal", "Warning"]
    reason: EventReason
    message: str


@dataclass(frozen=True)
class Decision:
    """What to do about one run."""

    status: Status
    urgent: bool = True  # False: only progress changed, and the status may wait until 30 s after its last write
    dry_runs: tuple[Manifest, ...] = ()  # the apiserver must take these before anything is created
    ensured: tuple[Manifest, ...] = ()  # the run's own objects, made before: what is missing of them is made again
    creations: tuple[Manifest, ...] = ()  # the run's own objects first, the attempt's workload last
    workload_of: str | None = None  # the step whose `workload` is the last creation: apply fills in its uid
    deletions: tuple[Deletion, ...] = ()
    delete_run: bool = False  # ttlSecondsAfterFinished
    events: tuple[RunEvent, ...] = ()
    look_again_seconds: float | None = None  # without anything happening; None: only when something does
    progress_url: str | None = None  # where the newest attempt tells how far it is
