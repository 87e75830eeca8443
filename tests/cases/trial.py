"""Trying a case: its input is written into a room, its command run, and what came of it held against what is right."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from cases.case import ON_CPU, REPOSITORY, Case, Room
from selfalign_api.load import load_run
from selfalign_jobs.accept.program import examine
from selfalign_jobs.local import cli
from selfalign_jobs.places.sources import read_source

VALIDATE = "selfalign validate {run}"
MOUNTS = f"selfalign={REPOSITORY / 'examples'}"
NEVER = ("Traceback (most recent call last)", "Exception ignored")  # whatever is brought


@dataclass(frozen=True)
class Told:
    """How a command ended, and all that it said."""

    code: int
    text: str


Tell = Callable[[str, Mapping[str, str]], Told]


def try_case(case: Case, room: Room, tell: Tell) -> list[str]:
    """What is wrong, a line each; nothing when the case is right."""
    room.folder.mkdir(parents=True)
    run = case.write(room)
    places = {"run": run, "out": room.out, "room": room.folder}
    line = (case.command or VALIDATE).format(**{name: shlex.quote(str(place)) for name, place in places.items()})
    told = tell(line, case.environment)
    return list(_words(case, told)) or [*_values(case, run), *case.holds(room)]


def by_shell(line: str, environment: Mapping[str, str]) -> Told:
    """Run the line as a user would, from the repository's root."""
    path = f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "SELFALIGN_MOUNTS": MOUNTS, **environment}
    done = subprocess.run(
        ["/bin/bash", "-c", line], cwd=REPOSITORY, env=given, capture_output=True, text=True, errors="replace"
    )
    return Told(done.returncode, done.stdout + done.stderr)


def in_process(line: str, environment: Mapping[str, str]) -> Told:
    """The same without a process of its own, where the line is one plain command and nothing about the machine is told."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    if environment or words[0] != "selfalign" or any(set(word) <= set("|<>&;()") for word in words):
        return by_shell(line, environment)
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), patch.dict(os.environ, SELFALIGN_MOUNTS=MOUNTS):
        try:
            code = cli.main(words[1:])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc(file=said)
            code = 1
    return Told(code, said.getvalue())


def _words(case: Case, told: Told) -> Iterator[str]:
    folded = " ".join(told.text.split())
    if told.code != case.code:
        yield f"exit {told.code}, not {case.code}: {folded[-600:]}"
    for words in case.says:
        if " ".join(words.split()) not in folded:
            yield f"it does not say {words!r}: {folded[-600:]}"
    for words in (*NEVER, *case.never):
        if words in folded:
            yield f"it says {words!r}: {folded[-600:]}"


def _values(case: Case, run: Path) -> Iterator[str]:
    """The columns of the run's sources as the steps will read them."""
    if not case.reads:
        return
    mounts = dict([MOUNTS.split("=", 1)])
    plan = examine(load_run(run), ON_CPU, mounts, run.parent).plan
    for source, columns in case.reads.items():
        table = read_source(source, plan.sources[source], mounts)
        for column, expected in columns.items():
            read = table[column].to_pylist() if column in table.column_names else None
            if read != list(expected):
                yield f"{source}.{column}: {_first_difference(read, expected)}"


def _first_difference(read: list[str | None] | None, expected: Sequence[str | None]) -> str:
    if read is None:
        return "is not read"
    if len(read) != len(expected):
        return f"{len(read)} rows are read, not {len(expected)}"
    number = next(i for i, (was, right) in enumerate(zip(read, expected, strict=True)) if was != right)
    return f"row {number + 1} is read as {read[number]!r}, not {expected[number]!r}"
