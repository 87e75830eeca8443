"""The duties of process 1: pass signals on, reap orphans, end as the program does.

Ray and torch leave children behind, which become those of process 1. It must wait for all of them, and a program that
did so itself would take exit codes away from its own subprocesses. So the program runs in a child.
Nothing heavy is imported here: until a handler is set, process 1 ignores every SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from selfalign_jobs.step.words import ended_by

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
MESSAGE_OPTION = "--termination-message"


def supervise(finish: Callable[[], None]) -> None:
    """Fork; only the child returns, with the signals held until the program has its handlers (`take_signals`).

    `finish` is called when the program has ended, before all that is left ends with process 1.
    """
    hold_signals()
    child = os.fork()
    if child == 0:
        return
    for number in PASSED_ON:
        signal.signal(number, lambda received, _: _pass_on(child, received))
    take_signals()
    pid, status = os.wait()
    while pid != child:
        pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        _last_word(signal.Signals(-code))
    finish()
    os._exit(code if code >= 0 else 128 - code)


def hold_signals() -> None:
    """Keep the signals that come from now on until `take_signals`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)


def take_signals() -> None:
    """Let the signals in that were held back until now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _last_word(number: signal.Signals) -> None:
    """What the program could not say itself."""
    words = f"the program was {ended_by(number)}"
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)
    if MESSAGE_OPTION in sys.argv[:-1]:
        with suppress(OSError):
            Path(sys.argv[sys.argv.index(MESSAGE_OPTION) + 1]).write_text(json.dumps({"error": words}))
