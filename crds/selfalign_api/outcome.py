"""What a step program tells whoever runs it: its exit code, and a summary for the termination message."""

from __future__ import annotations

import base64
import json
import re
import zlib
from enum import IntEnum
from typing import Any, NamedTuple, cast

from selfalign_api.plan import Json, Plan
from selfalign_api.status import MAX_STEPS, StepKind

__all__ = [
    "ACCEPT",
    "TERMINATION_MESSAGE_BYTES",
    "Exit",
    "PlannedStep",
    "pack_steps",
    "termination_message",
    "unpack_steps",
]

ACCEPT = (
    "accept"  # the step that checks a run and claims its folder, before any GPU is taken; the plan does not have it
)
TERMINATION_MESSAGE_BYTES = 4096  # what a kubelet keeps of /dev/termination-log
MAX_PACKED_BYTES = 64 * 1024  # unpacked; 256 steps take less than 16 kB
KINDS = ("generate", "train", "evaluate")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
CUT = ("error", "stopped")  # texts that may lose their end
SPARED = ("storage", "model")  # what goes, in this order, when a message is still too long: the run names both


class Exit(IntEnum):
    """Exit codes of a step program (design §3). Anything else is a failure, and retried."""

    DONE = 0
    CONFIG = 64  # the user's configuration is wrong; never retried
    STOPPED = 75  # stopped on request, or out of room: resumable


class PlannedStep(NamedTuple):
    """A step as whoever runs it must know it."""

    name: str
    kind: StepKind
    iteration: int


def pack_steps(plan: Plan) -> str:
    """The steps of a plan in order, as text that a termination message has room for: base64 of zlib of JSON."""
    steps = [PlannedStep(step.name, step.kind, step.iteration) for step in plan.steps]
    return base64.b64encode(zlib.compress(json.dumps(steps, separators=(",", ":")).encode(), 9)).decode()


def unpack_steps(text: str) -> tuple[PlannedStep, ...]:
    """The steps that `pack_steps` packed. Raises ValueError for anything else, and never unpacks more than 64 kB."""
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(base64.b64decode(text, validate=True), MAX_PACKED_BYTES)
        if not inflate.eof or inflate.unused_data:
            raise ValueError(f"cut short, longer than {MAX_PACKED_BYTES} bytes, or followed by something")
        document = json.loads(raw)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError(f"no packed steps: {error}") from None
    if not isinstance(document, list) or not 0 < len(document) <= MAX_STEPS:
        raise ValueError(f"no packed steps: not a list of 1 to {MAX_STEPS}")
    steps = tuple(_planned(entry) for entry in document)
    if len({step.name for step in steps}) < len(steps):
        raise ValueError("no packed steps: two have one name")
    return steps


def _planned(entry: Any) -> PlannedStep:
    match entry:
        case [str(name), str(kind), int(iteration)] if (
            NAME.fullmatch(name)
            and name != ACCEPT
            and kind in KINDS
            and type(iteration) is int
            and 1 <= iteration <= 32
        ):
            return PlannedStep(name, cast(StepKind, kind), iteration)
    raise ValueError(f"no packed steps: {str(entry)[:80]} is no [name, kind, iteration]")


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
