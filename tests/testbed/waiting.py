"""Waiting for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(look: Callable[[], Value | None], wanted: str, seconds: float = 60, pause: float = 0.05) -> Value:
    """What `look` returns, once that is something. Raises TimeoutError, naming what was wanted, after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s there is still no {wanted}")
        time.sleep(pause)
