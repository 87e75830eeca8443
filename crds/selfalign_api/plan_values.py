"""What the types of a plan are made of: values, whose JSON is digested."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Json = Any  # a JSON value; pydantic checks it when a plan is read


class Frozen(BaseModel):
    """Plan types are values: immutable, closed, comparable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# A field that came later: left out of JSON while it is unset, so that the digests of older plans hold.
ADDED = Field(exclude_if=lambda value: value in (None, (), {}, "Causal"))
