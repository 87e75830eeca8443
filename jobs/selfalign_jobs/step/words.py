"""The words of an exception: its type and what it says, without frames, colours and prefixes of logs.

Ray wraps what an actor raises into text that begins with its own frames, torch appends C++ frames, both colour and
prefix lines. A termination message has 4 kB, and kubectl shows its first line: the exception must stand there.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

MAX_CHARACTERS = 1500  # so that what to do about it fits beside it

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_LOG_PREFIX = re.compile(
    r"^(\([^()]*\bpid=\d+[^()]*\)\s*"  # (EngineActor pid=12, ip=10.0.0.1), (Worker_TP0 pid=12): Ray, vLLM
    r"|\[rank\d+\]:\s?"  # torch
    r"|\[?(DEBUG|INFO|WARNING|ERROR|CRITICAL|[DIWEF]\d{4})[ :]\S*[\d:.]*( [\d:.,]+)?( \[[^\]]*\]| \S+:\d+\])\s?)+"  # vLLM, glog
)
_FRAME = re.compile(r'^\s*File ".*", line \d+')
_NOISE = re.compile(
    r"^\s*$|^\s*frame #\d+|^Exception raised from .* \(most recent call first\)|^C\+\+ CapturedTraceback|"
    r"^ray::|^\t\w+: |^\s*Traceback \(most recent call last\):"
)


def words_of(error: BaseException) -> str:
    """`ValueError: what it says`; of a failure in a process of Ray, what was raised there."""
    cause = getattr(error, "cause", None)  # of a RayTaskError
    if isinstance(cause, BaseException) and cause is not error:
        return words_of(cause)
    text = str(error)
    said = plain(text)
    if _has_frames(text):
        return said
    name = type(error).__name__
    return f"{name}: {said}" if said else name


def ended_by(number: int) -> str:
    """What a program that a signal ended could not say itself, after "ended by"."""
    why = {
        signal.SIGKILL: ", most likely for the memory that it used",
        signal.SIGBUS: ", most likely because /dev/shm or the disk is full",
    }
    return f"ended by {signal.Signals(number).name}{why.get(signal.Signals(number), '')}"


def plain(text: str) -> str:
    """The exception that a text of frames ends with, or the text itself; without colours, prefixes and blank lines."""
    pieces = _without_frames(text)
    said = "\n".join(pieces[-1]).strip()
    return said if len(said) <= MAX_CHARACTERS else said[: MAX_CHARACTERS - 1] + "…"


def all_said(text: str) -> str:
    """What all the exceptions in a text say, those that led to the last one too."""
    return "\n".join(line for piece in _without_frames(text) for line in piece)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that it came from, itself first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += getattr(found, "exceptions", ())  # of a group
        waiting += [getattr(found, "cause", None), found.__cause__]
        waiting.append(None if found.__suppress_context__ else found.__context__)


def plain_lines(text: str) -> list[str]:
    """The lines of a text without colours and prefixes."""
    return [_LOG_PREFIX.sub("", line) for line in _COLOURS.sub("", text).splitlines()]


def _without_frames(text: str) -> list[list[str]]:
    """The lines before, between and after the stacks of a text, each piece without noise."""
    pieces: list[list[str]] = [[]]
    in_frame = False
    for line in plain_lines(text):
        if _FRAME.match(line):
            if not in_frame and pieces[-1]:
                pieces.append([])
            in_frame = True
        elif in_frame and line.startswith("    "):  # the frame's line of code, and the marks under it
            continue
        else:
            in_frame = False
            pieces[-1] += [] if _NOISE.match(line) else [line.rstrip()]
    return pieces


def _has_frames(text: str) -> bool:
    return any(_FRAME.match(line) for line in plain_lines(text))
