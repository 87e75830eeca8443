"""Conversations as prompts: one turn of the user's."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cases.case import Case
from cases.table_files import (
    array,
    lines,
    parquet,
    table,
    with_prompts,
)

USER, SYSTEM = {"role": "user", "content": "one"}, {"role": "system", "content": "be short"}
ANSWER, LATER = {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}
MESSAGES = {"messages": "messages"}
PROMPTS = {"prompts": {"prompt": ["one", "one"]}}


def asks(name: str, file: str, content: bytes, columns: dict[str, str] | None = None) -> Case:
    """Conversations whose prompts are read."""
    return Case(name, with_prompts(file, content, columns), reads=PROMPTS)


def cannot_ask(name: str, row: Mapping[str, object], *says: str, columns: dict[str, str] | None = None) -> Case:
    """A conversation of which no prompt can be made."""
    return Case(name, with_prompts("prompts.jsonl", lines([row, row]), columns), code=64, says=says)


CASES = [
    asks("prompts as text", "prompts.jsonl", lines([{"prompt": "one"}] * 2)),
    asks("prompts of TRL's", "prompts.jsonl", lines([{"prompt": [USER]}] * 2)),
    asks("prompts of TRL's, Parquet", "prompts.parquet", parquet({"prompt": [[USER]] * 2})),
    asks("prompts as text and of TRL's", "prompts.jsonl", lines([{"prompt": [USER]}, {"prompt": "one"}])),
    asks(
        "conversations", "prompts.jsonl", lines([{"messages": [USER, ANSWER, LATER]}, {"messages": [USER]}]), MESSAGES
    ),
    asks("conversations, JSON", "prompts.json", array([{"messages": [USER, ANSWER]}] * 2), MESSAGES),
    asks("conversations, Parquet", "prompts.parquet", parquet({"chat": [[USER, ANSWER]] * 2}), {"messages": "chat"}),
    asks(
        "a content of one part",
        "prompts.jsonl",
        lines([{"prompt": [USER | {"content": [{"type": "text", "text": "one"}]}]}] * 2),
    ),
    cannot_ask(
        "a prompt of several turns",
        {"prompt": [USER, ANSWER, LATER]},
        "line 1: prompt is a conversation of 3 messages, and a prompt here is one user turn",
        "columns: {messages: COLUMN}",
    ),
    cannot_ask("a prompt with a system message", {"prompt": [SYSTEM, USER]}, "prompt is a conversation of 2 messages"),
    cannot_ask(
        "a conversation with a system message",
        {"messages": [SYSTEM, USER]},
        "messages begins with a message of the system, and a prompt here is one user turn",
        columns=MESSAGES,
    ),
    cannot_ask(
        "a conversation that the model begins",
        {"messages": [ANSWER, USER]},
        "messages begins with a message of the assistant",
        columns=MESSAGES,
    ),
    cannot_ask(
        "two turns of the user's",
        {"messages": [USER, LATER]},
        "messages has two user turns before an answer",
        columns=MESSAGES,
    ),
    asks(
        "an empty system message",
        "prompts.jsonl",
        lines([{"prompt": [SYSTEM | {"content": ""}, USER]}, {"prompt": [SYSTEM | {"content": None}, USER]}]),
    ),
    asks(
        "tools after the prompt",
        "prompts.jsonl",
        lines(
            [{"messages": [USER, ANSWER | {"content": None, "tool_calls": [1]}, {"role": "tool", "content": "2"}]}] * 2
        ),
        MESSAGES,
    ),
    Case(
        "conversations in CSV",
        with_prompts("prompts.csv", table({"messages": json.dumps([USER])} for _ in range(2)), MESSAGES),
        code=64,
        says=(
            "prompts.csv holds text alone, and columns.messages names conversations; write them as JSONL or Parquet",
        ),
    ),
    Case(
        "conversations in a text",
        with_prompts("prompts.txt", b"one\ntwo\n", MESSAGES),
        code=64,
        says=("prompts.txt holds text alone",),
    ),
    cannot_ask(
        "another role",
        {"messages": [{"role": "human", "content": "one"}]},
        "messages begins with a message of the human",
        columns=MESSAGES,
    ),
    cannot_ask(
        "ShareGPT's",
        {"messages": [{"from": "human", "value": "one"}]},
        "messages is a list of {from, value} (ShareGPT's",
        columns=MESSAGES,
    ),
    cannot_ask(
        "text as conversations",
        {"messages": "one"},
        "messages is text, where a conversation, a list of {role, content}, is read",
        columns=MESSAGES,
    ),
    cannot_ask(
        "a picture",
        {"messages": [USER | {"content": [{"type": "image", "url": "x"}]}]},
        "messages has a content that is a list, where text is read",
        columns=MESSAGES,
    ),
    cannot_ask(
        "an empty turn", {"messages": [USER | {"content": ""}]}, "2 of 2 rows have an empty prompt", columns=MESSAGES
    ),
    cannot_ask(
        "conversations that are not named",
        {"messages": [USER]},
        "has no column prompt; it has messages",
        "columns: {messages: messages} for conversations",
    ),
    cannot_ask(
        "both",
        {"prompt": "one", "messages": [USER]},
        "stands beside prompt; write the one that holds the prompts",
        columns=MESSAGES | {"prompt": "prompt"},
    ),
]
