"""What a step program works with (the contract between step programs and whoever runs them, design §3).

Plan and attempt in, manifest out, `/progress` and `/metrics` while it works, a summary for the termination message, and
the exit code: 0 done, 64 the configuration is wrong, 75 stopped and resumable, anything else a failure. A step that finds
its manifest is done at once, with the same summary. The program around it is entry.py, the exit codes are ending.py's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from selfalign_api.plan_values import Json
from selfalign_api.run_file import StepConfig
from selfalign_jobs.places.store import Folder, TableEntry, step_folder
from selfalign_jobs.step.gang import Gang
from selfalign_jobs.step.progress import Progress

Summary = dict[str, Json]  # what the termination message says


class Stopped(Exception):
    """The step stopped on request at a durable boundary; the next attempt goes on there."""


class ResultMissing(Exception):
    """The step whose result is collected has published none."""


@dataclass
class StepContext:
    """All that a step program works with."""

    config: StepConfig
    run: Folder  # the run's folder
    folder: Folder  # this step's folder
    progress: Progress
    stop: threading.Event  # set by SIGTERM or SIGINT: finish the append, then raise Stopped
    gang: Gang | None = None  # of several pods
    tables: dict[str, TableEntry] = field(default_factory=dict)  # what this step finished: its later loads read it

    @classmethod
    def of(cls, config: StepConfig, progress: Progress, stop: threading.Event, gang: Gang | None = None) -> StepContext:
        """The context of one attempt."""
        run = Folder.open(config.storage)
        step = config.plan.step(config.step)
        return cls(config, run, step_folder(run, step.iteration, step.name), progress, stop, gang)
