"""A generate step on real Ray, which can be told where to be killed.

    python killed_step.py ENGINE PLACE:COUNT:WHOM|- ARGUMENTS OF THE ENTRY POINT

ENGINE is `vllm`, or the folder in which a fake engine logs every request. PLACE is a place in the commit of a part:
written (of nothing yet), flushed (the temporary file is there), renaming, renamed, committed. At the COUNT-th commit
that gets there WHOM is killed by SIGKILL: the driver, or everything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import psutil
from logged_engine import LettersChat, LoggedEngine

import selfalign_jobs.places.store as store
from selfalign_api.plan import Generate
from selfalign_api.sources import ModelSource
from selfalign_jobs import entry
from selfalign_jobs.generate import helper, parts, session
from selfalign_jobs.generate.program import generate
from selfalign_jobs.places.store import Manifest
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.surroundings import settle

SMALL_PART = 16


def make_chat(model: Path, given: ModelSource | None, fallback: str | None = None) -> LettersChat:
    return LettersChat()


def make_engine(log: Path, spec: object, model: Path) -> LoggedEngine:
    return LoggedEngine(log)


def die(whom: str) -> None:
    me = psutil.Process()
    for process in me.children(recursive=True) if whom == "everything" else []:
        process.kill()
    os.kill(me.pid, signal.SIGKILL)


def kill_in_commit(place: str, count: int, whom: str) -> None:
    """Put the kill into the store's commit."""
    committed_here, fsync, replace = store.committed_here, os.fsync, Path.replace
    commits, fsyncs = 0, 0

    def reached(here: str) -> None:
        if here == place and commits == count:
            die(whom)

    @contextmanager
    def counting_write(target: Path) -> Iterator[BinaryIO]:
        nonlocal commits, fsyncs
        if "/parts/" not in str(target):
            with committed_here(target) as file:
                yield file
            return
        commits, fsyncs = commits + 1, 0
        reached("written")
        with committed_here(target) as file:
            yield file
        reached("committed")

    def counting_fsync(file: int) -> None:
        nonlocal fsyncs
        fsyncs += 1
        reached("flushed" if fsyncs == 1 else "renamed")
        fsync(file)

    def watched_replace(self: Path, target: Path) -> Path:
        reached("renaming")
        return replace(self, target)

    store.committed_here = counting_write
    os.fsync = counting_fsync
    Path.replace = watched_replace  # type: ignore[method-assign, assignment]


def main() -> int:
    settle()
    engine, kill, *arguments = sys.argv[1:]

    def execute(context: StepContext) -> Manifest:
        todo = context.config.plan.step(context.config.step)
        assert isinstance(todo, Generate)
        if engine == "vllm":
            return generate(context, todo)
        return generate(context, todo, partial(make_engine, Path(engine)), make_chat)

    session.RAY_PORT = helper.RAY_PORT = int(os.environ.get("TEST_RAY_PORT", "0"))  # of a gang: several tests at once
    parts.PART_RECORDS = SMALL_PART
    entry.execute = execute
    if kill != "-":
        place, count, whom = kill.split(":")
        kill_in_commit(place, int(count), whom)
    return entry.main(arguments)


if __name__ == "__main__":
    os._exit(main())
