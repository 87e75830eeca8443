"""What a value of JSON or Parquet is as text.

Text is itself. Numbers, true and false are their own spelling in the file; null is no text. A list of messages is a
conversation, of which a prompt is one user turn; whatever else is refused in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeGuard


def text(value: object) -> str | None:
    """A value where text is read. Raises ValueError for a list or an object."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_chat(value):
        raise ValueError("is a conversation (a list of messages), where text is read; name a column of text in columns")
    raise ValueError(f"is {_a(value)}, where text is read; name a column of text in columns")


def prompt(value: object) -> str | None:
    """A prompt: text, or a conversation that is one user turn and nothing else (TRL's conversational prompts)."""
    if not is_chat(value):
        return text(value)
    messages = _said(value)
    if len(messages) > 1:
        raise ValueError(
            f"is a conversation of {len(messages)} messages, and a prompt here is one user turn; give the one turn, or name "
            "whole conversations as columns: {messages: COLUMN}, whose first user turn is the prompt"
        )
    return _first_user_turn(messages)


def turns(value: object) -> str | None:
    """The turns of a question, a list of texts, as JSON."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(turn, str) and turn.strip() for turn in value):
        what = "text" if isinstance(value, str) else _a(value)
        raise ValueError(f"is {what}, where the turns of a question, a list of texts, are read")
    return json.dumps(value, ensure_ascii=False)


def first_user_turn(value: object) -> str | None:
    """The prompt of a whole conversation: its first message, which must be the user's. What follows is not read."""
    if value is None:
        return None
    if not is_chat(value):
        what = "text" if isinstance(value, str) else _a(value)
        raise ValueError(
            f"is {what}, where a conversation, a list of {{role, content}}, is read; write columns: {{prompt: COLUMN}}"
        )
    return _first_user_turn(_said(value))


def _first_user_turn(messages: list[Mapping[str, object]]) -> str | None:
    first, *later = messages
    if first.get("role") != "user":
        raise ValueError(
            f"begins with a message of the {first.get('role')}, and a prompt here is one user turn; take it out"
        )
    if later and later[0].get("role") == "user":
        raise ValueError("has two user turns before an answer, and a prompt here is one; join them in the file")
    return content(first)


def content(message: Mapping[str, object]) -> str | None:
    """What a message says. Raises ValueError for what is no text."""
    said = message.get("content")
    if isinstance(said, list) and len(said) == 1 and _is_text_part(said[0]):
        said = said[0]["text"]
    if said is not None and not isinstance(said, str):
        raise ValueError(f"has a content that is {_a(said)}, where text is read; write its text")
    return said


def _said(messages: list[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The messages without a system message that says nothing, as some data sets begin each conversation."""
    first = messages[0]
    return (
        messages[1:] if len(messages) > 1 and first.get("role") == "system" and not first.get("content") else messages
    )


def is_chat(value: object) -> TypeGuard[list[Mapping[str, object]]]:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _is_text_part(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _a(value: object) -> str:
    if isinstance(value, list):
        if value and all(isinstance(message, Mapping) and "from" in message for message in value):
            return "a list of {from, value} (ShareGPT's; messages have {role, content})"
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"of type {type(value).__name__}"
