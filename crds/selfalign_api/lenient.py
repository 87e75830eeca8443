"""JSON that another version wrote, read by this one: what is new in it is left out, what is wrong in it stays."""

from __future__ import annotations

import copy
import json
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["without_unknown"]

Location = tuple[int | str, ...]  # of a pydantic error


def without_unknown(model: type[BaseModel], data: Any) -> Any:
    """JSON data without the fields that `model` does not know, at any depth."""
    known = copy.deepcopy(data)
    while places := _unknown(model, known):
        for place in places:
            parent = known
            for part in place[:-1]:
                parent = parent[part]
            del parent[place[-1]]
    return known


def _unknown(model: type[BaseModel], data: Any) -> list[Location]:
    try:
        model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        return [details["loc"] for details in found if details["type"] == "extra_forbidden"]
    return []
