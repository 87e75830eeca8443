"""JSON nested deeper than Python's parser goes. The apiserver takes 10 000 levels, also where the schema is free
(podTemplate), and one such object in a list or a watch would end the watching of all others.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["MAX_DEPTH", "TOO_DEEP", "is_cut", "loads", "shallow"]

MAX_DEPTH = 100
TOO_DEEP = "(nested too deep for selfalign)"  # stands where something was cut off
SPARE_CALLS = 100  # what is parsed here can be written and compared from a deeper stack, too
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
AS_LISTS = bytes.maketrans(b"{}", b"[]")
NO_MARKS = bytes(set(range(256)) - set(b"[]{}"))
TOKEN = re.compile(STRING.pattern + rb"|[\[{\]}]", re.DOTALL)


def loads(text: bytes | str) -> Any:
    """The value of a JSON text; of one too deep for the parser, with TOO_DEEP below MAX_DEPTH. Raises ValueError."""
    try:
        return _parse(text, SPARE_CALLS)
    except RecursionError:
        return json.loads(shallow(text if isinstance(text, bytes) else text.encode()))


def _parse(text: bytes | str, spare: int) -> Any:
    return _parse(text, spare - 1) if spare else json.loads(text)


def shallow(text: bytes) -> bytes:
    """The JSON text with TOO_DEEP for every list and map below MAX_DEPTH."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH or _is_shallow(text):
        return text
    kept, depth, begin = list[bytes](), 0, 0
    for token in TOKEN.finditer(text):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += (text[begin : token.start()], json.dumps(TOO_DEEP).encode())
        elif mark in (b"]", b"}"):
            if depth == MAX_DEPTH + 1:
                begin = token.end()
            depth -= 1
    return b"".join((*kept, text[begin:])) if kept else text


def _is_shallow(text: bytes) -> bool:
    """Whether nothing is left when the innermost lists and maps are taken off so often; four times as fast as by token."""
    marks = STRING.sub(b"", text).translate(AS_LISTS, NO_MARKS)
    for _ in range(MAX_DEPTH):
        marks = marks.replace(b"[]", b"")
        if not marks:
            return True
    return False


def is_cut(value: Any) -> bool:
    """Whether something was cut off inside a value that went through `shallow`."""
    if isinstance(value, dict):
        return any(map(is_cut, value.values()))
    if isinstance(value, list):
        return any(map(is_cut, value))
    return bool(value == TOO_DEEP)
