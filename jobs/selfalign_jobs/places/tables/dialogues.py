"""Rows that are a dialogue, in the forms that people have them, brought to one: what was said before, prompt, answers.

Demonstrations are a prompt and its response, or a conversation. Preferences are TRL's: a prompt with two answers, texts or
lists of messages, or two whole conversations that part at their last answer (the prompt is then in both, and a column of
prompts is not read); the transcripts of HH-RLHF are such conversations as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from selfalign_jobs.gather import row_numbers
from selfalign_jobs.places.tables import cells
from selfalign_jobs.places.tables.piece import Column, Piece, Unreadable, piece_of

Which = Literal["First", "Last"]
Cells = Mapping[str, str | None]  # of a row, by the columns' standard names

ROLES = ("system", "user", "assistant")
OF_PEOPLE = ("user", "description")  # whose preferences a row tells of, and what they are like
SAID = "\0"  # what a cell begins with that holds messages: a text of a file does not
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")  # HH-RLHF's


class Message(NamedTuple):
    """What one side says."""

    role: str
    content: str


class Turn(NamedTuple):
    """An answer, and what it answers."""

    history: tuple[Message, ...]
    prompt: str
    answer: str
    answers: int  # in the whole conversation


def cell(value: object) -> str | None:
    """Text as it is; a list of messages, kept as text. Raises ValueError for what is neither."""
    if not cells.is_chat(value):
        return cells.text(value)
    return SAID + json.dumps([_message(message) for message in value], ensure_ascii=False)


def demonstrations(which: Which) -> Callable[[Piece], Piece]:
    """Pieces of `prompt` and `response` (which may be a whole conversation) as history, prompt, response, answers."""
    return lambda piece: _shaped(piece, ("response",), which)


def preferences(which: Which) -> Callable[[Piece], Piece]:
    """Pieces of `prompt`, `chosen` and `rejected` as history, prompt, chosen, rejected, answers; and whose row it is."""
    return lambda piece: _shaped(piece, ("chosen", "rejected"), which)


def _shaped(piece: Piece, sides: Sequence[str], which: Which) -> Piece:
    names = ("history", "prompt", *sides)
    values: list[list[str | None]] = [[] for _ in names]
    counts = []
    for number, row in enumerate(piece.table.to_pylist()):
        try:
            turns = [_turn(_conversation(row, side), which) for side in sides]
            if any(turn[:2] != turns[0][:2] for turn in turns):
                raise ValueError("the chosen and the rejected conversation differ before their last answers; keep one")
        except ValueError as error:
            raise Unreadable(str(error), piece.where(number)) from error
        first = turns[0]
        said = json.dumps(first.history, ensure_ascii=False) if first.history else None
        for texts, text in zip(values, (said, first.prompt, *(turn.answer for turn in turns)), strict=True):
            texts.append(text)
        counts.append(max(turn.answers for turn in turns))
    table = piece_of([Column(name, name, cells.text) for name in names], values, piece.where).table
    table = table.append_column("answers", row_numbers(np.array(counts, np.int64)))
    for name in OF_PEOPLE:
        if name in piece.table.column_names:
            table = table.append_column(name, piece.table[name])
    return Piece(table, piece.where)


def _conversation(row: Cells, side: str) -> list[Message]:
    """The whole conversation that ends with the answer `side` of a row."""
    answer, prompt = row[side], row.get("prompt")
    said = _messages(answer, "assistant", transcript=prompt is None)
    if said[0].role != "assistant":
        return said
    if "prompt" not in row:
        raise ValueError(
            "a conversation is a list of {role, content} that begins with the user's turn; write such lists"
        )
    if prompt is None:
        raise ValueError(f"{side} begins with an answer, and there is no prompt; write columns: {{prompt: COLUMN}}")
    return [*_messages(prompt, "user"), *said]


def _messages(value: str | None, speaker: str, *, transcript: bool = False) -> list[Message]:
    """The messages of a cell; a text is one of the `speaker`, or (HH-RLHF) a transcript."""
    text = value or ""
    if text.startswith(SAID):
        messages = [Message(*message) for message in json.loads(text[1:])]
        empty = messages[0].role == "system" and not messages[0].content and len(messages) > 1
        return messages[1:] if empty else messages
    if transcript and (parts := TRANSCRIPT.split(text))[0] == "" and len(parts) > 2:
        speakers = ({"Human": "user", "Assistant": "assistant"}[name] for name in parts[1::2])
        return [Message(who, what.strip()) for who, what in zip(speakers, parts[2::2], strict=True)]
    return [Message(speaker, text)]


def _turn(said: Sequence[Message], which: Which) -> Turn:
    """The first or the last answer of a conversation. Its ends are stripped, as chat templates strip what is said."""
    system = 1 if said[0].role == "system" else 0
    for number, message in enumerate(said[system:]):
        if message.role != ("user", "assistant")[number % 2]:
            raise ValueError(
                f"message {number + 1} is of the {message.role}; user and assistant speak in turn, the user first"
            )
    answers = (len(said) - system) // 2
    if answers == 0:
        raise ValueError("the conversation has no answer; take it out")
    last = system + (1 if which == "First" else 2 * answers - 1)
    return Turn(tuple(said[: last - 1]), said[last - 1].content, said[last].content.strip(), answers)


def _message(message: Mapping[str, object]) -> Message:
    role, content = message.get("role"), cells.content(message)
    if role not in ROLES:
        raise ValueError(f"has a message of the {role}, and {', '.join(ROLES)} are read; take it out")
    return Message(str(role), content or "")
