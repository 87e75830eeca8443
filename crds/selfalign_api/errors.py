"""The one error that says: the user's configuration is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

__all__ = ["ConfigError", "Problem", "Reason", "refused_as", "shown"]

# The first four are of the condition Accepted, when False; the others of a step that is Failed.
Reason = Literal["InvalidSpec", "ModelNotFound", "DataNotFound", "StorageInUse", "TrainingDiverged", "GateNotPassed"]

MAX_SHOWN_CHARACTERS = 120
VERBS = ("is ", "must ", "has ", "names ")  # a message that begins so has the value as its subject


def shown(value: object) -> str:
    """`value` on one line, cut to 120 characters; text without quotes unless it is empty or has a line end."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value and value.isprintable():
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (`spec.model.url`, or a file), what is there (None: nothing), what to write."""

    path: str
    value: object
    message: str

    def __str__(self) -> str:
        """`path: message`, a scalar value between: `path: 4 is not one of 0, 1`, `path: a/b: this is a dataset`."""
        if self.value is None or isinstance(self.value, dict | list | tuple):
            return f"{self.path}: {self.message}"
        colon = "" if self.message.startswith(VERBS) else ":"
        return f"{self.path}: {shown(self.value)}{colon} {self.message}"


class ConfigError(Exception):
    """The user's configuration is wrong: exit code 64, never retried. Carries every problem that was found."""

    reason: str = "InvalidSpec"  # of the condition Accepted, which is then False

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs at least one problem")
        self.problems = tuple(problems)
        super().__init__(self.problems)

    @classmethod
    def one(cls, path: str, message: str, value: object = None) -> ConfigError:
        """The error with one problem."""
        return cls((Problem(path, value, message),))

    def __str__(self) -> str:
        """One line a problem."""
        return "\n".join(str(problem) for problem in self.problems)


@contextmanager
def refused_as(reason: Reason) -> Iterator[None]:
    """A ConfigError that is raised inside has this reason."""
    try:
        yield
    except ConfigError as error:
        error.reason = reason
        raise
