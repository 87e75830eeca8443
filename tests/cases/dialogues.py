"""Preferences as people have them: TRL's forms, whole conversations, transcripts; and what is none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import array, lines, parquet, table


def said(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation: user and assistant in turn."""
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    return [*([] if system is None else [{"role": "system", "content": system}]), *turns]


def answer(text: str) -> list[dict[str, str]]:
    """A list of one message, the assistant's."""
    return [{"role": "assistant", "content": text}]


def with_preferences(file: str, content: bytes, **source: Any) -> Callable[[Room], Path]:
    """A run on pairs of the user's."""

    def write(room: Room) -> Path:
        return room.run(
            {
                "recipe": "pairs",
                "data": {"preferences": {"url": room.data(file, content)} | source},
                "generation": {"precision": "float32", "roles": [{"name": "respond", "maxTokens": 16}]},
                "judge": None,
                "evaluation": {"when": "Never"},
            }
        )

    return write


def reads(name: str, file: str, content: bytes, expected: Mapping[str, Sequence[str | None]], **source: Any) -> Case:
    """Pairs that are read as these columns."""
    return Case(name, with_preferences(file, content, **source), reads={"preferences": expected})


def refused(name: str, row: object, *says: str, **source: Any) -> Case:
    """A row, twice, that is refused in these words."""
    return Case(name, with_preferences("pairs.jsonl", lines([row, row]), **source), code=64, says=says)


PAIR = {"prompt": "Say a", "chosen": "a", "rejected": "b"}
ONE: Mapping[str, Sequence[str | None]] = {
    "prompt": ["Say a"] * 2,
    "chosen": ["a"] * 2,
    "rejected": ["b"] * 2,
    "history": [None] * 2,
}
CONVERSATIONAL = {"prompt": said("Say a"), "chosen": answer("a"), "rejected": answer("b")}
WHOLE = {"chosen": said("Say a", "a"), "rejected": said("Say a", "b")}
BEFORE = '[["user", "Hi"], ["assistant", "Hello"]]'
LONG = {"chosen": said("Hi", "Hello", "Say a", "a"), "rejected": said("Hi", "Hello", "Say a", "b")}
LATE: Mapping[str, Sequence[str | None]] = {
    "prompt": ["Say a"] * 2,
    "chosen": ["a"] * 2,
    "rejected": ["b"] * 2,
    "history": [BEFORE] * 2,
}
EARLY = {"chosen": said("Hi", "Hello", "x", "y"), "rejected": said("Hi", "Go away", "x", "z")}
TRANSCRIPT = {
    name: f"\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Say a\n\nAssistant: {t}"
    for name, t in (("chosen", "a"), ("rejected", "b"))
}

CASES = [
    reads("standard, JSONL", "pairs.jsonl", lines([PAIR] * 2), ONE),
    reads("standard, JSON", "pairs.json", array([PAIR] * 2), ONE),
    reads("standard, CSV", "pairs.csv", table([PAIR] * 2), ONE),
    reads("standard, Parquet", "pairs.parquet", parquet({name: [text] * 2 for name, text in PAIR.items()}), ONE),
    reads("conversational", "pairs.jsonl", lines([CONVERSATIONAL] * 2), ONE),
    reads("conversational, Parquet", "p.parquet", parquet({n: [v] * 2 for n, v in CONVERSATIONAL.items()}), ONE),
    reads("conversational and standard", "pairs.jsonl", lines([CONVERSATIONAL, PAIR]), ONE),
    reads("whole conversations", "pairs.jsonl", lines([WHOLE] * 2), ONE),
    reads("whole conversations beside a prompt", "pairs.jsonl", lines([WHOLE | {"prompt": "x"}] * 2), ONE),
    reads(
        "an empty system message",
        "pairs.jsonl",
        lines([{n: said("Say a", t, system="") for n, t in (("chosen", "a"), ("rejected", "b"))}] * 2),
        ONE,
    ),
    reads("several turns: the last", "pairs.jsonl", lines([LONG] * 2), LATE),
    reads(
        "several turns in the prompt",
        "p.jsonl",
        lines([CONVERSATIONAL | {"prompt": said("Hi", "Hello", "Say a")}] * 2),
        LATE,
    ),
    reads(
        "several turns: the first",
        "pairs.jsonl",
        lines([EARLY] * 2),
        {"prompt": ["Hi"] * 2, "chosen": ["Hello"] * 2, "rejected": ["Go away"] * 2},
        turn="First",
    ),
    reads("transcripts", "pairs.jsonl", lines([TRANSCRIPT] * 2), LATE),
    reads(
        "answers with space around them", "pairs.jsonl", lines([PAIR | {"chosen": " a\n", "rejected": "\nb "}] * 2), ONE
    ),
    reads(
        "columns of other names",
        "pairs.jsonl",
        lines([{"q": "Say a", "good": "a", "bad": "b"}] * 2),
        ONE,
        columns={"prompt": "q", "chosen": "good", "rejected": "bad"},
    ),
    refused("no chosen", {"prompt": "a", "rejected": "b"}, "has no column chosen", "columns: {chosen: COLUMN}"),
    refused(
        "no prompt", {"chosen": "a", "rejected": "b"}, "line 1: chosen begins with an answer, and there is no prompt"
    ),
    refused(
        "an empty answer", PAIR | {"rejected": " "}, "2 of 2 rows have an empty rejected, the first pairs.jsonl, line 1"
    ),
    refused(
        "equal answers in every row", PAIR | {"rejected": "a "}, "chosen equals rejected in all 2 rows", "turn: Last"
    ),
    refused("equal first answers", LONG, "chosen equals rejected in all 2 rows", "turn: Last", turn="First"),
    refused("two prompts", {"chosen": said("x", "a"), "rejected": said("y", "b")}, "differ before their last answers"),
    refused(
        "two user turns", {n: [*said("x"), *said("y", n)] for n in ("chosen", "rejected")}, "message 2 is of the user"
    ),
    refused(
        "a tool", WHOLE | {"chosen": [{"role": "tool", "content": "1"}, *said("Say a", "a")]}, "a message of the tool"
    ),
    refused("ShareGPT's", WHOLE | {"chosen": [{"from": "human", "value": "x"}]}, "a list of {from, value}"),
    refused("a conversation without an answer", {n: said(n) for n in ("chosen", "rejected")}, "has no answer"),
    refused(
        "a column that is not read", PAIR, "is not read here", "prompt, chosen, rejected", columns={"persona": "who"}
    ),
    Case(
        "fewer rows than iterations",
        lambda room: _of_rounds(room, 3),
        code=64,
        says=("there are 2", "fewer iterations"),
    ),
    Case(
        "a turn of prompts",
        lambda room: room.run({"data.personas.turn": "Last"}),
        code=64,
        says=("whose answers are read",),
    ),
]


def _of_rounds(room: Room, iterations: int) -> Path:
    run = with_preferences("pairs.jsonl", lines([PAIR] * 2))(room)
    text = run.read_text().replace("recipe: pairs", f"recipe: pairs\n  iterations: {iterations}")
    return room.text(text)


# --- demonstrations -----------------------------------------------------------------------------------------------------


def with_demonstrations(file: str, content: bytes, **source: Any) -> Callable[[Room], Path]:
    """A run of SPIN on demonstrations of the user's."""

    def write(room: Room) -> Path:
        return room.run(
            {
                "recipe": "spin",
                "data": {"demonstrations": {"url": room.data(file, content)} | source},
                "generation": {"precision": "float32", "roles": [{"name": "respond", "maxTokens": 16}]},
                "judge": None,
                "evaluation": {"when": "Never"},
            }
        )

    return write


def shows(name: str, file: str, content: bytes, expected: Mapping[str, Sequence[str | None]], **source: Any) -> Case:
    """Demonstrations that are read as these columns."""
    return Case(name, with_demonstrations(file, content, **source), reads={"demonstrations": expected})


def shows_nothing(name: str, row: object, *says: str, **source: Any) -> Case:
    """A row, twice, that is refused in these words."""
    return Case(name, with_demonstrations("rows.jsonl", lines([row, row]), **source), code=64, says=says)


SHOWN: Mapping[str, Sequence[str | None]] = {"prompt": ["Say a"] * 2, "response": ["a"] * 2, "history": [None] * 2}
LAST: Mapping[str, Sequence[str | None]] = {"prompt": ["Say a"] * 2, "response": ["a"] * 2, "history": [BEFORE] * 2}
TALK = {"messages": said("Hi", "Hello", "Say a", "a")}
MESSAGES = {"messages": "messages"}

CASES += [
    shows("demonstrations, JSONL", "rows.jsonl", lines([{"prompt": "Say a", "response": "a "}] * 2), SHOWN),
    shows("demonstrations, CSV", "rows.csv", table([{"prompt": "Say a", "response": "a"}] * 2), SHOWN),
    shows(
        "demonstrations of TRL's prompt and completion",
        "rows.jsonl",
        lines([{"prompt": said("Say a"), "completion": answer("a")}] * 2),
        SHOWN,
        columns={"response": "completion"},
    ),
    shows(
        "demonstrations as conversations",
        "r.jsonl",
        lines([{"messages": said("Say a", "a", "more")}] * 2),
        SHOWN,
        columns=MESSAGES,
    ),
    shows(
        "conversations in Parquet",
        "r.parquet",
        parquet({"messages": [said("Say a", "a")] * 2}),
        SHOWN,
        columns=MESSAGES,
    ),
    shows(
        "the first of several turns",
        "rows.jsonl",
        lines([TALK] * 2),
        {"prompt": ["Hi"] * 2, "response": ["Hello"] * 2},
        columns=MESSAGES,
    ),
    shows("the last of several turns", "rows.jsonl", lines([TALK] * 2), LAST, columns=MESSAGES, turn="Last"),
    shows_nothing("no answers", {"prompt": "Say a"}, "has no column response", "columns: {response: COLUMN}"),
    shows_nothing("no answers, but conversations", {"messages": said("x", "y")}, "or columns: {messages: messages}"),
    shows_nothing("empty answers", {"prompt": "Say a", "response": " \n"}, "2 of 2 rows have an empty response"),
    shows_nothing("conversations without an answer", {"messages": said("x")}, "has no answer", columns=MESSAGES),
    shows_nothing(
        "conversations that the assistant begins",
        {"messages": said("x", "y")[1:]},
        "begins with the user's turn",
        columns=MESSAGES,
    ),
    shows_nothing(
        "both forms", TALK | {"prompt": "x"}, "stands beside prompt", columns=MESSAGES | {"prompt": "prompt"}
    ),
    shows_nothing("a conversation that is text", {"messages": "x"}, "a list of {role, content}", columns=MESSAGES),
    Case("a judge that nobody asks needs no room", lambda room: _without_a_judge(room)),
    Case(
        "demonstrations that are all held out",
        lambda room: _all_held_out(room),
        code=64,
        says=("holds all 2 prompts", "draws from data.demonstrations"),
    ),
]


def _without_a_judge(room: Room) -> Path:
    """The default judge's template and answer do not fit into these 256 tokens."""
    prompts = {"url": room.lines("asked.jsonl", [{"prompt": "Say c", "right": "c"}]), "columns": {"reference": "right"}}
    return room.run(
        {
            "recipe": "pairs",
            "data": {"preferences": {"url": room.data("pairs.jsonl", lines([PAIR] * 2))}},
            "generation": {
                "precision": "float32",
                "maxModelTokens": 256,
                "roles": [{"name": "respond", "maxTokens": 16}],
            },
            "judge": None,
            "evaluation": {"prompts": prompts, "checks": [{"name": "accuracy", "type": "ExactMatch"}]},
        }
    )


def _all_held_out(room: Room) -> Path:
    rows = lines([{"prompt": "Say a", "response": "a"}, {"prompt": "Say b", "response": "b"}])
    run = with_demonstrations("rows.jsonl", rows)(room)
    prompts = f"evaluation: {{prompts: {{url: '{room.url('rows.jsonl')}'}}}}"
    return room.text(run.read_text().replace("evaluation:\n    when: Never", prompts))
