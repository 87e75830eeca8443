"""How a step, or any work of ours, ends: its exit code, and what it says (the contract is in context.py)."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import Exit
from selfalign_jobs.step.context import ResultMissing, Stopped, Summary


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
