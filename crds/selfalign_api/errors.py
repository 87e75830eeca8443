"""The one error that says: the user's configuration is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ConfigError", "Problem", "shown"]

MAX_SHOWN_CHARACTERS = 120


def shown(value: object) -> str:
    """`value` as it stands in YAML, on one line, cut to 120 characters; text without quotes unless it is empty or has a line end."""
    if isinstance(value, str) and value and value.isprintable():
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (`spec.model.url`, or a file), what stands there (None: nothing), what to write."""

    path: str
    value: object
    message: str

    def __str__(self) -> str:
        """One line, `path: message`; a message that begins with `is ` or `must ` has the value before it."""
        if self.value is not None and self.message.startswith(("is ", "must ")):
            return f"{self.path}: {shown(self.value)} {self.message}"
        return f"{self.path}: {self.message}"


class ConfigError(Exception):
    """The user's configuration is wrong: exit code 64, never retried. Carries every problem that was found."""

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
