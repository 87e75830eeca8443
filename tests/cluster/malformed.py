"""What may stand in an object past its schema: seeded, from anywhere in the schema to anything that JSON can say."""

from __future__ import annotations

import copy
import random
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63 - 1, -(2**63), 0.1, 1e300, "", " ", "x" * 400, "ä☃\u0000\n", "0", "true", "nan",
    "../../secrets", "a/b?c=d#e", "pvc://", "s3://", "s3://b/../..", "file:///etc/passwd", "http://[::1", "{{.x}}", "$(HOME)",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z",
    [], {}, [None], [[]], {"": ""}, {"a": None}, ["x"] * 60, [{"name": "step"}] * 2, {"name": ["step"]}, {"spec": [1]},
    {"metadata": {"labels": {"selfalign.dev/step": 7}}}, {"a": {"b": {"c": {"d": {"e": {"f": [[[[[]]]]]}}}}}},
)  # fmt: skip


class Malformer:
    """Breaks a spec or a status that `schema` describes, the same way for the same seed."""

    def __init__(self, schema: dict[str, Any], seed: int) -> None:
        self.schema = schema
        self.random = random.Random(seed)

    def broken(self, good: Any) -> Any:
        """A copy of `good` with one to four places that are not as they must be."""
        value = copy.deepcopy(good)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            value = self._break(value, self.schema)
        return value

    def _break(self, value: Any, schema: dict[str, Any]) -> Any:
        """Go down from here by chance: along what the schema knows, or along what is there."""
        stop = self.random.random() < 0.15
        if not stop and isinstance(value, list) and value:
            index = self.random.randrange(len(value))
            value[index] = self._break(value[index], schema.get("items", {}))
            return value
        if stop or not isinstance(value, dict | None):
            return copy.deepcopy(self.random.choice(NASTY))
        known = schema.get("properties", {})
        fields = sorted({*known, *(value or {}), "unknown"})
        field = self.random.choice(fields)
        value = {} if value is None else value
        if field in value and self.random.random() < 0.2:
            del value[field]
        else:
            value[field] = self._break(value.get(field), known.get(field, {}))
        return value
