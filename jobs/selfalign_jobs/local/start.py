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


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, SHOW_CURSOR)
        os.write(2, WORDS)
    os._exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main())
