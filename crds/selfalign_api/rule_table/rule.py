"""A rule over several fields, and how its CEL asks whether a field is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from selfalign_api.base import ApiModel

M = TypeVar("M", bound=ApiModel)


@dataclass(frozen=True)
class Rule(Generic[M]):
    """What must hold for every `on`; `field` is the path under it that the error names ("" for `on` itself).

    `cel` decides on a cluster, `holds` here; they agree but for `here`, which says what one machine takes besides.
    """

    on: type[M]
    field: str
    cel: str
    message: str
    holds: Callable[[M], bool]
    here: Callable[[M], bool] | None = None
    meant: Callable[[M], str | None] = lambda _: None  # what somebody who wrote this may have meant


def given(*paths: str) -> str:
    """The CEL for "one of these is left out, or": a has() for each step of each path below self."""
    steps: dict[str, None] = {}
    for path in paths:
        names = path.split(".")
        steps.update(dict.fromkeys(".".join(names[: depth + 1]) for depth in range(len(names))))
    return "".join(f"!has(self.{step}) || " for step in steps)
