"""What passes between the program and its ranks, as files in a work folder: the job in, reports and outcomes out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.plan_values import Frozen, Json
from selfalign_api.run_file import StepConfig
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.failure import FULL, LOST, Failed, kind_of
from selfalign_jobs.step.words import words_of
from selfalign_jobs.train.checkpoint import Checkpoint
from selfalign_jobs.train.settings import Batches

JOB = "job.json"
EXAMPLES = "examples.arrow"
REFERENCE = "reference/log_probs.parquet"  # in the step's folder
REPORT = "report.jsonl"
LOG = "log.parquet"
MODEL = "model"
OUTCOME_BYTES = 16 << 10  # of the file of an outcome


class Job(Frozen):
    """All that a rank is told."""

    config: StepConfig
    start: str  # folder of the model that is trained
    reference: str | None  # folder of the reference; None for losses without
    work: str  # this attempt's scratch, on this machine
    batches: Batches
    zero_stage: int | None  # None: without DeepSpeed
    resume: Checkpoint | None = None  # that training goes on from

    @property
    def folder(self) -> Path:
        """The work folder."""
        return Path(self.work)


class Outcome(Frozen):
    """How a rank ended."""

    rank: int
    kind: Literal["done", "config", "stopped", "full", "failed", "lost"]  # the last: it lost another rank
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
    found = kind_of(error)
    kind: Literal["full", "failed", "lost"] = "full" if found is FULL else "lost" if found is LOST else "failed"
    return Outcome(rank=rank, kind=kind, message=words_of(error))


def reserve_outcome(work: Path, rank: int) -> None:
    """Take the room of an outcome, before the disk may be full."""
    _unsaid(work, rank).write_bytes(b" " * OUTCOME_BYTES)


def write_outcome(work: Path, outcome: Outcome) -> None:
    """Leave it for the program, whole, in the room that was reserved for it."""
    unsaid = _unsaid(work, outcome.rank)
    with unsaid.open("r+b" if unsaid.exists() else "wb") as file:
        file.write(outcome.model_dump_json().encode().ljust(OUTCOME_BYTES))
    unsaid.replace(unsaid.with_suffix(".json"))


def _unsaid(work: Path, rank: int) -> Path:
    return work / f"outcome-{rank}.unsaid"


def read_outcomes(work: Path) -> list[Outcome]:
    """The outcomes that ranks left, by rank."""
    found = [Outcome.model_validate_json(file.read_bytes()) for file in work.glob("outcome-*.json")]
    return sorted(found, key=lambda outcome: outcome.rank)


def error_of(outcomes: list[Outcome], here: range, ranks: int, stop_asked: bool) -> Exception | None:
    """The error that the outcomes of the ranks `here`, on this node, mean for its program; None when all are done."""
    by_kind = {outcome.kind: outcome for outcome in reversed(outcomes)}
    if config := by_kind.get("config"):
        error = ConfigError([Problem(path, value, message) for path, value, message in config.problems])
        error.reason = config.reason
        return error
    if full := by_kind.get("full"):
        return Failed("training", full.message)
    own = [f"{outcome.message} (rank {outcome.rank} of {ranks})" for outcome in outcomes if outcome.kind == "failed"]
    # A failed rank makes the agent stop the others.
    if (stopped := by_kind.get("stopped")) and (stop_asked or not own):
        return Stopped(stopped.message)
    if len(outcomes) < len(here) and stop_asked:
        return Stopped("stopped before the training began; the next attempt begins it")
    silent = sorted(set(here) - {outcome.rank for outcome in outcomes})
    died = [f"rank {rank} of {ranks} died without a word (killed, or out of memory)" for rank in silent]
    lost = [f"{outcome.message} (rank {outcome.rank} of {ranks})" for outcome in outcomes if outcome.kind == "lost"]
    words = [*own, *died, *lost]  # causes first: what ends one rank is a lost connection to the others
    return Failed("training", "\n".join(words[:1] if own else words)) if words else None


class Reporter:
    """Rank 0's voice: one JSON object a line, read by the program while the ranks work."""

    def __init__(self, work: Path) -> None:
        self._descriptor = os.open(work / REPORT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def phase(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """A phase begins, `done` of its units being there from an earlier attempt."""
        self._say({"phase": phase, "total": total, "unit": unit, "done": done})

    def micro_batches(self, places: int) -> None:
        """How many places they have at most."""
        self._say({"places": places})

    def advance(self, done: int) -> None:
        """`done` units of the phase are finished."""
        self._say({"done": done})

    def past(self, rows: list[dict[str, float]]) -> None:
        """The optimiser steps of earlier attempts that count."""
        if rows:
            self._say({"past": rows})

    def log(self, row: dict[str, float]) -> None:
        """An optimiser step ended."""
        self._say({"log": row})

    def _say(self, message: dict[str, Json]) -> None:
        os.write(self._descriptor, json.dumps(message).encode() + b"\n")
