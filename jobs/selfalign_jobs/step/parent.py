"""Ending with the process that started this one, however that ends: a killed one leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Ask the kernel for a signal when the parent dies; `parent` is its process id, in case it has died before this."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if parent is not None and os.getppid() != parent:
        os._exit(1)
