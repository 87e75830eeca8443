"""The content of a run's ConfigMap as its status keeps it: whoever deletes the one leaves the other."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from selfalign_api.status import PACKED_MAX_CHARACTERS

__all__ = ["packed", "unpacked"]

MAX_BYTES = 1 << 20  # of a ConfigMap, as the apiserver has it


def packed(data: Mapping[str, str]) -> str | None:
    """zlib, base64; None where that would take too much of an object that is often read."""
    text = b64encode(zlib.compress(json.dumps(data).encode(), 9)).decode()
    return text if len(text) <= PACKED_MAX_CHARACTERS else None


def unpacked(text: str) -> Any:
    """What was packed; anybody may have edited it. Raises ValueError where it is nothing of the kind."""
    try:
        return json.loads(zlib.decompressobj().decompress(b64decode(text, validate=True), MAX_BYTES))
    except (zlib.error, RecursionError) as error:
        raise ValueError(str(error)) from None
