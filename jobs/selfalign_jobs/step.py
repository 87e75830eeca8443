"""A step: what its program works with, and how it ends (the contract between step programs and whoever runs them, design §3).

Plan and attempt in, manifest out, `/progress` and `/metrics` while it works, a summary for the termination message, and
the exit code: 0 done, 64 the configuration is wrong, 75 stopped and resumable, anything else a failure. A step that finds
its manifest is done at once, with the same summary. The program around it is entry.py.
"""

from __future__ import annotations

import errno
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import Exit
from selfalign_api.plan import Evaluate, Generate, Json, Publish, Train
from selfalign_api.run_file import StepConfig
from selfalign_jobs.gang import Gang
from selfalign_jobs.progress import Progress
from selfalign_jobs.reuse import done_before
from selfalign_jobs.store import Folder, Manifest, TableEntry, step_folder

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


def execute(context: StepContext) -> Manifest:
    """Run the step by its kind. Imports late: an engine's libraries load only where an engine runs."""
    step = context.config.plan.step(context.config.step)
    if isinstance(step, Generate):
        from selfalign_jobs.generate.program import generate

        return generate(context, step)
    if isinstance(step, Evaluate):
        from selfalign_jobs.evaluate.program import evaluate

        return evaluate(context, step)
    if isinstance(step, Publish):
        from selfalign_jobs.publish import publish

        return publish(context, step)
    from selfalign_jobs.train.program import train

    return train(context, step)


def help_out(context: StepContext, gang: Gang) -> Summary:
    """What the other pods of a gang do for its head, which alone publishes."""
    step = context.config.plan.step(context.config.step)
    context.progress.begin("helping", 0, "records")
    if isinstance(step, Train):
        from selfalign_jobs.train.program import train_share

        train_share(context, step, gang)
    else:
        from selfalign_jobs.generate.helper import help_head
        from selfalign_jobs.generate.program import means_of

        help_head(gang, means_of(context.config), context.stop)
    return {"step": step.name, "attempt": context.config.attempt, "index": gang.index}


def run_step(context: StepContext) -> Summary:
    """Do a step, or this pod's share of it, unless it is done; raises as `ending` has it."""
    if context.gang is not None and context.gang.index > 0:
        return help_out(context, context.gang)
    return (done_before(context.config) or execute(context)).summary()


def ending(work: Callable[[], Summary]) -> tuple[int, Summary]:
    """How some work ended: the exit code, and what the termination message holds."""
    try:
        return Exit.DONE, work()
    except ConfigError as error:
        return Exit.CONFIG, {"error": str(error), "reason": error.reason}
    except Stopped as stopped:
        return Exit.STOPPED, {"stopped": str(stopped)}
    except ResultMissing as missing:
        return 1, {"error": str(missing), "reason": "ResultMissing"}
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            words = f"the storage is full ({error}); make room, then run the same command again"
            return Exit.STOPPED, {"stopped": words}
        traceback.print_exc()
        return 1, {"error": f"{type(error).__name__}: {error}"}
