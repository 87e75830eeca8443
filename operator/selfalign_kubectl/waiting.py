"""What a person waits for: whether it is so, whether it can still come, in words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfalign_api.errors import ConfigError
from selfalign_api.status import Status
from selfalign_kubectl.refusals import Unreachable
from selfalign_kubectl.shown import trouble
from selfalign_kubectl.words import one_line
from selfalign_operator.views import RunView

POLL_SECONDS = 2.0
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
WANTED = ("complete", "failed", "ended", "accepted", "suspended", "running", "step=NAME")

Answer = Literal["yes", "no", "never"]


@dataclass(frozen=True)
class Verdict:
    """`never`: only a person can bring it about now."""

    answer: Answer
    words: str


def wanted_of(text: str) -> str:
    """What --for says, in our spelling; `condition=Complete` is kubectl's. Raises ConfigError."""
    wanted = text.removeprefix("condition=")
    if wanted.startswith("step=") and wanted != "step=":
        return wanted
    if wanted.lower() in WANTED:
        return wanted.lower()
    raise ConfigError.one("--for", f"is nothing to wait for; write one of {', '.join(WANTED)}", text)


def seconds_of(text: str) -> float | None:
    """What --timeout says: `90s`, `1h30m`; 0: for ever, None. Raises ConfigError."""
    if text in ("0", "0s"):
        return None
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError.one("--timeout", "is no time; write such as 90s, 10m, 1h30m, or 0 for no end", text)
    return float(sum(int(number) * UNIT_SECONDS[unit] for number, unit in parts))


def verdict(status: Status, wanted: str) -> Verdict:
    """Whether it is as wanted. Raises ConfigError for a step that the run does not have."""
    if wanted.startswith("step="):
        return _of_step(status, wanted.removeprefix("step="))
    states = {
        "complete": status.is_true("Complete"),
        "failed": status.is_true("Failed"),
        "ended": status.has_ended,
        "accepted": status.is_true("Accepted"),
        "suspended": status.is_true("Suspended"),
        "running": status.state == "Running",
    }
    if states[wanted]:
        return Verdict("yes", f"is {wanted}")
    if status.has_ended and wanted != "ended":
        return Verdict("never", _ended(status))
    if wanted in ("complete", "ended", "running") and status.state == "Held":
        return Verdict("never", f"is held ({trouble(status)})")
    return Verdict("no", trouble(status) or f"is {status.state}")


def _of_step(status: Status, name: str) -> Verdict:
    step = status.step(name)
    if step is None and len(status.steps) > 1:
        raise ConfigError.one("--for", f"names no step; there are {', '.join(s.name for s in status.steps)}", name)
    if step is not None and step.state == "Skipped":
        return Verdict("never", f"has left {name} out: {one_line(step.message)}")
    if step is not None and step.is_over:
        return Verdict("yes", f"has {name} done")
    if status.has_ended:
        return Verdict("never", _ended(status))
    if status.state == "Held":
        return Verdict("never", f"is held ({trouble(status)})")
    return Verdict("no", trouble(status) or f"is {status.state}")


def _ended(status: Status) -> str:
    return f"has failed ({trouble(status)})" if status.is_true("Failed") else "is complete"


def wait_for(
    look: Callable[[], RunView],
    wanted: str,
    seconds: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """The last verdict: yes, never, or no when the time was over. An apiserver that does not answer is asked again."""
    end = None if seconds is None else clock() + seconds
    found = Verdict("no", "was not seen yet")
    while True:
        try:
            found = verdict(look().status, wanted)
        except Unreachable as error:
            found = Verdict("no", str(error))
        if found.answer != "no" or (end is not None and clock() >= end):
            return found
        sleep(POLL_SECONDS if end is None else max(0.0, min(POLL_SECONDS, end - clock())))
