"""What a step program tells whoever runs it: its exit code, and a summary for the termination message."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from enum import IntEnum

from selfalign_api.plan_values import Json

ACCEPT = "accept"  # the step that checks a run and claims its folder before any GPU is taken; no plan has it
TERMINATION_MESSAGE_BYTES = 4096  # what a kubelet keeps of /dev/termination-log
UNPACKED_BYTES = 64 * 1024  # of a plan's steps
CUT = ("error", "stopped")  # texts that may lose their end
SPARED = ("storage", "model")  # what goes, in this order, when a message is still too long: the run names both


FAILED = 1  # any exit code but those of `Exit`: a failure, and retried


class Exit(IntEnum):
    """Exit codes of a step program (design §3) that say more than that it failed."""

    DONE = 0
    CONFIG = 64  # the user's configuration is wrong; never retried
    STOPPED = 75  # stopped on request, or out of room: resumable


def pack_steps(steps: Iterable[tuple[str, str, int]]) -> str:
    """Name, kind and iteration of each step of a plan, small enough for a termination message (256 steps: ~1 kB)."""
    return base64.b64encode(zlib.compress(json.dumps(list(steps)).encode(), 9)).decode()


def unpack_steps(text: object) -> Json:
    """What `pack_steps` packed, as JSON. Raises ValueError for anything else, and never unpacks more than 64 kB."""
    unpack = zlib.decompressobj()
    try:
        body = unpack.decompress(base64.b64decode(str(text), validate=True), UNPACKED_BYTES)
        if not unpack.eof or unpack.unused_data:
            raise ValueError(f"cut short, longer than {UNPACKED_BYTES} bytes, or followed by something")
        return json.loads(body)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError(f"no packed steps: {error}") from None


def termination_message(message: dict[str, Json]) -> bytes:
    """The message as whole JSON within the kubelet's bound: long texts lose their end, a long result its last figures."""
    message = dict(message)
    for key in CUT:
        if isinstance(text := message.get(key), str) and (too_much := _excess(message)) > 0:
            message[key] = _cut(text, too_much)
    if "result" in message:
        message["result"] = result = dict(message["result"])
        while result and _excess(message) > 0:
            result.popitem()
    for key in SPARED:
        if _excess(message) > 0:
            message.pop(key, None)
    if _excess(message) > 0:
        raise ValueError(
            f"a termination message of {', '.join(message)} does not fit {TERMINATION_MESSAGE_BYTES} bytes"
        )
    return _encoded(message)


def _cut(text: str, too_much: int) -> str:
    """`text` without enough of its end that its JSON is shorter by at least `too_much` bytes, or nearly nothing of it."""
    wanted = len(_encoded(text)) - too_much - len(_encoded(" …"))
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_encoded(text[:middle])) <= wanted else (low, middle - 1)
    return text[:low] + " …"


def _excess(message: dict[str, Json]) -> int:
    return len(_encoded(message)) - TERMINATION_MESSAGE_BYTES


def _encoded(value: Json) -> bytes:
    return json.dumps(value).encode()
