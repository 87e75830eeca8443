"""How a step, or any work of ours, ends: its exit code, and what it says (the contract is in context.py)."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import FAILED, Exit
from selfalign_jobs.step.context import ResultMissing, Stopped, Summary
from selfalign_jobs.step.failure import told
from selfalign_jobs.step.words import chain


def ending(work: Callable[[], Summary]) -> tuple[int, Summary]:
    """How some work ended: the exit code, and what the termination message holds."""
    try:
        return Exit.DONE, work()
    except Stopped as stopped:
        return Exit.STOPPED, {"stopped": str(stopped)}
    except ResultMissing as missing:
        return FAILED, {"error": str(missing), "reason": "ResultMissing"}
    except Exception as error:
        if config := next((found for found in chain(error) if isinstance(found, ConfigError)), None):
            return Exit.CONFIG, {"error": str(config), "reason": config.reason}
        code, words = told(error)
        with suppress(OSError):  # the log may lie where there is no room
            traceback.print_exc()
            sys.stderr.flush()
        if code == Exit.CONFIG:
            return code, {"error": words, "reason": "InvalidSpec"}
        return code, {"stopped" if code == Exit.STOPPED else "error": words}
