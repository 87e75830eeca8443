"""What a value of JSON or Parquet is as text.

Text is itself. Numbers, true and false are their own spelling in the file; null is no text. A list of messages is a
conversation, of which a prompt is one user turn; whatever else is refused in words.
"""

from __future__ import annotations

from collections.abc import Mapping

ROLES = ("system", "user", "assistant")


def text(value: object) -> str | None:
    """A value where text is read. Raises ValueError for a list or an object."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_chat(value):
        raise ValueError("is a conversation (a list of messages), where text is read; name a column of text in columns")
    raise ValueError(f"is {_a(value)}, where text is read; name a column of text in columns")


def prompt(value: object) -> str | None:
    """A prompt: text, or a conversation that is one user turn and nothing else (TRL's conversational prompts)."""
    if not _is_chat(value):
        return text(value)
    turns = _turns(value)
    if len(turns) > 1:
        raise ValueError(
            f"is a conversation of {len(turns)} messages, and a prompt here is one user turn; give the one turn, or name "
            "whole conversations as columns: {messages: COLUMN}, whose first user turn is the prompt"
        )
    return _first_user_turn(turns)


def first_user_turn(value: object) -> str | None:
    """The prompt of a whole conversation: its first message, which must be the user's. What follows is not read."""
    if value is None:
        return None
    if not _is_chat(value):
        what = "text" if isinstance(value, str) else _a(value)
        raise ValueError(
            f"is {what}, where a conversation, a list of {{role, content}}, is read; write columns: {{prompt: COLUMN}}"
        )
    return _first_user_turn(_turns(value))


def _first_user_turn(turns: list[tuple[str, object]]) -> str | None:
    role, content = turns[0]
    if role != "user":
        raise ValueError(
            f"begins with a message of the {role}, and a prompt here is one user turn; take that message out of the file"
        )
    if len(turns) > 1 and turns[1][0] == "user":
        raise ValueError("has two user turns before an answer, and a prompt here is one; join them in the file")
    if isinstance(content, list) and len(content) == 1 and _is_text_part(content[0]):
        content = content[0]["text"]
    if content is not None and not isinstance(content, str):
        raise ValueError(f"has a content that is {_a(content)}, where text is read; write its text")
    return content


def _turns(value: object) -> list[tuple[str, object]]:
    assert isinstance(value, list)
    for message in value:
        if message.get("role") not in ROLES:
            said = "has no role" if message.get("role") is None else f"has the role {message['role']}"
            raise ValueError(f"has a message that {said}; write {', '.join(ROLES)}")
    return [(message["role"], message.get("content")) for message in value]


def _is_chat(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _is_text_part(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _a(value: object) -> str:
    if isinstance(value, list):
        if value and all(isinstance(message, Mapping) and "from" in message for message in value):
            return "a list of {from, value} (ShareGPT's; messages have {role, content})"
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"of type {type(value).__name__}"
