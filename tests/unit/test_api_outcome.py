"""Termination messages: they fit and are whole JSON; the steps of a plan go through one and garbage never does."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.outcome import (
    TERMINATION_MESSAGE_BYTES,
    UNPACKED_BYTES,
    pack_steps,
    termination_message,
    unpack_steps,
)


def packed(document: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


def test_256_steps_fit_a_termination_message() -> None:
    steps = [(f"i{number % 32 + 1}-generate{number}", "generate", number % 32 + 1) for number in range(256)]
    message = {"step": "accept", "steps": pack_steps(steps), "storage": "s" * 1100, "model": {"url": "m" * 1024}}
    assert unpack_steps(json.loads(termination_message(message))["steps"]) == [list(step) for step in steps]


GARBAGE = [
    "", "%", "AAAA", "é", None, 7, packed([["i1-train", "train", 1]])[:-6],
    base64.b64encode(zlib.compress(b"[" * 50_000)).decode(),
    base64.b64encode(zlib.compress(b"\xff")).decode(),
    base64.b64encode(zlib.compress(b"1" * 5000)).decode(),
    base64.b64encode(zlib.compress(b'[["x","train",1]]') + b"more").decode(),
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_packed_steps_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_steps(text)


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_nothing_but_a_value_error_comes_of_garbage(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_steps(text)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(b"[" + b" " * (100 << 20), 9)).decode()
    assert len(bomb) < 2 * UNPACKED_BYTES * 3
    with pytest.raises(ValueError, match="longer than"):
        unpack_steps(bomb)


@given(st.text(max_size=20_000), st.dictionaries(st.text(max_size=50), st.integers() | st.text(max_size=500)))
def test_a_termination_message_fits_and_is_json(text: str, result: dict[str, Any]) -> None:
    for message in ({"error": text, "reason": "InvalidSpec"}, {"stopped": text}, {"step": "x", "result": result}):
        body = termination_message(message)
        assert len(body) <= TERMINATION_MESSAGE_BYTES
        assert set(json.loads(body)) == set(message)


@given(st.text(max_size=20_000))
def test_a_long_error_loses_its_end_only(text: str) -> None:
    kept = json.loads(termination_message({"error": text}))["error"]
    assert kept == text or text.startswith(kept.removesuffix(" …"))
    assert kept == text or len(json.dumps(kept)) > TERMINATION_MESSAGE_BYTES - 40
