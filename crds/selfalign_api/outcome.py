"""What a step program tells whoever runs it: its exit code, and a summary for the termination message."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

TERMINATION_MESSAGE_BYTES = 4096  # what a kubelet keeps of /dev/termination-log
UNPACKED_BYTES = 64 * 1024  # of a plan's steps


class Exit(IntEnum):
    """Exit codes of a step program (design §3). Anything else is a failure, and retried."""

    DONE = 0
    CONFIG = 64  # the user's configuration is wrong; never retried
    STOPPED = 75  # stopped on request, or out of room: resumable


def pack_steps(steps: Sequence[tuple[str, str, int]]) -> str:
    """Name, kind and iteration of each step of a plan, small enough for a termination message (256 steps: ~1 kB)."""
    return base64.b64encode(zlib.compress(json.dumps(list(steps)).encode(), 9)).decode()


def unpack_steps(text: object) -> Any:
    """What `pack_steps` packed, as JSON. Raises ValueError for anything else, and for more than it would pack."""
    if not isinstance(text, str):
        raise ValueError("no packed steps")
    unpack = zlib.decompressobj()
    try:
        body = unpack.decompress(base64.b64decode(text, validate=True), UNPACKED_BYTES)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"no packed steps ({error})") from None
    if unpack.unconsumed_tail:
        raise ValueError(f"packed steps of more than {UNPACKED_BYTES} bytes")
    return json.loads(body)
