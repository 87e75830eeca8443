"""What passes between the program and its ranks, as files in a work folder: the job in, reports and outcomes out."""

from __future__ import annotations

import errno
import json
import os
import traceback
from pathlib import Path
from typing import Literal

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.plan import Frozen, Json
from selfalign_api.run_file import StepConfig
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train.checkpoint import Checkpoint
from selfalign_jobs.train.settings import Layout

JOB = "job.json"
EXAMPLES = "examples.parquet"
REPORT = "report.jsonl"
LOG = "log.parquet"
MODEL = "model"


class Job(Frozen):
    """All that a rank is told."""

    config: StepConfig
    start: str  # folder of the model that is trained
    reference: str | None  # folder of the reference; None for losses without
    work: str  # this attempt's scratch, on this machine
    batches: Layout
    resume: Checkpoint | None = None  # that training goes on from

    @property
    def folder(self) -> Path:
        """The work folder."""
        return Path(self.work)


class Outcome(Frozen):
    """How a rank ended."""

    rank: int
    kind: Literal["done", "config", "stopped", "full", "failed"]
    message: str = ""
    problems: tuple[tuple[str, Json, str], ...] = ()
    reason: str = ""  # of a ConfigError
    result: dict[str, Json] = {}


def outcome_of(rank: int, error: BaseException) -> Outcome:
    """The outcome that an error of a rank means."""
    if isinstance(error, ConfigError):
        problems = tuple((problem.path, problem.value, problem.message) for problem in error.problems)
        return Outcome(rank=rank, kind="config", message=str(error), problems=problems, reason=error.reason)
    if isinstance(error, Stopped):
        return Outcome(rank=rank, kind="stopped", message=str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Outcome(rank=rank, kind="full", message=str(error))
    return Outcome(rank=rank, kind="failed", message="".join(traceback.format_exception(error)))


def write_outcome(work: Path, outcome: Outcome) -> None:
    """Leave it for the program, whole."""
    target = work / f"outcome-{outcome.rank}.json"
    temporary = target.with_suffix(".tmp")
    temporary.write_text(outcome.model_dump_json())
    temporary.replace(target)


def read_outcomes(work: Path) -> list[Outcome]:
    """The outcomes that ranks left, by rank."""
    found = [Outcome.model_validate_json(file.read_text()) for file in work.glob("outcome-*.json")]
    return sorted(found, key=lambda outcome: outcome.rank)


def error_of(outcomes: list[Outcome], here: range, ranks: int, stop_asked: bool) -> Exception | None:
    """The error that the outcomes of the ranks `here`, on this node, mean for its program; None when all are done."""
    by_kind = {outcome.kind: outcome for outcome in reversed(outcomes)}
    if config := by_kind.get("config"):
        error = ConfigError([Problem(path, value, message) for path, value, message in config.problems])
        error.reason = config.reason
        return error
    if full := by_kind.get("full"):
        return OSError(errno.ENOSPC, full.message)
    if stopped := by_kind.get("stopped"):
        return Stopped(stopped.message)
    if len(outcomes) < len(here) and stop_asked:
        return Stopped("stopped before the training began; the next attempt begins it")
    silent = sorted(set(here) - {outcome.rank for outcome in outcomes})
    words = [f"rank {rank} of {ranks} died without a word (killed, or out of memory)" for rank in silent]
    if failed := by_kind.get("failed"):
        words.append(f"rank {failed.rank} of {ranks} failed:\n{failed.message}")
    return RuntimeError("; ".join(words)) if words else None


class Reporter:
    """Rank 0's voice: one JSON object a line, read by the program while the ranks work."""

    def __init__(self, work: Path) -> None:
        self._descriptor = os.open(work / REPORT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def phase(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """A phase begins, `done` of its units being there from an earlier attempt."""
        self._say({"phase": phase, "total": total, "unit": unit, "done": done})

    def advance(self, done: int) -> None:
        """`done` units of the phase are finished."""
        self._say({"done": done})

    def log(self, row: dict[str, float]) -> None:
        """An optimiser step ended."""
        self._say({"log": row})

    def _say(self, message: dict[str, Json]) -> None:
        os.write(self._descriptor, json.dumps(message).encode() + b"\n")
