"""The command `selfalign` from its first line on: a signal ends it in words at any moment, while it still imports too.

All that a command writes is written whole, and done again it comes to the same: it can end anywhere. Only the steps of
a run are asked to stop, at a durable boundary, by the handlers that the runner sets in the place of these.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import FrameType

from selfalign_jobs.surroundings import settle, take_stops

STOPPED = 75  # selfalign_api.outcome.Exit, whose import takes a moment
SHOW_CURSOR = b"\x1b[?25h"  # a live panel hides it
WORDS = b"stopped; run the same command again to go on\n"


def main() -> int:
    """The entry point; the exit codes are those of cli.main."""
    take_stops(_end)
    _begin_in_utf8()
    settle()
    from selfalign_jobs.local.cli import main as command

    code = command()
    try:
        sys.stdout.flush()
    except OSError as error:  # a full disk: a plan that was not written must not look as if it were
        code = code or STOPPED
        with suppress(OSError):
            print(f"stdout cannot be written ({error}); make room, then run the same command again", file=sys.stderr)
    with suppress(OSError):
        sys.stderr.flush()
    return code


def _begin_in_utf8() -> None:
    """Begin again in UTF-8 where the locale has another encoding: names of files are UTF-8 to all that is written in C++."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        told = {"PYTHONUTF8": "1", "PYTHONIOENCODING": sys.stdout.encoding if sys.stdout else "utf-8"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | told)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, SHOW_CURSOR)
        os.write(2, WORDS)
    os._exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main())
