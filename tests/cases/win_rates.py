"""Win rates as people ask for them: by whom they are judged, and files of somebody else's answers, or for another tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import lines

HELD = [{"prompt": f"Count these words: {word} cat"} for word in ("dog", "pear", "axe", "lime")]
RIVAL = [row | {"response": "two"} for row in HELD]
QUESTIONS = [row | {"uid": number, "category": "hard_prompt"} for number, row in enumerate(HELD)]
TURNS = [
    {"question_id": id, "category": "writing", "turns": [f"Say {colour}.", "Again."], "reference": []}
    for id, colour in ((81, "red"), (82, "blue"))
]
BY_UID = {"id": "uid"}
REWARD = {"name": "reward", "kind": "RewardModel", "url": "pvc://selfalign/tiny-model/reward-model"}
STRONG = {"name": "strong", "url": "pvc://selfalign/tiny-model/strong"}
SOURCE = "answers-rival"


def against_file(
    rows: Iterable[object] | bytes = RIVAL, file: str = "rival.jsonl", **given: Any
) -> Callable[[Room], Path]:
    """A run whose answers are compared with those of a file: rows, or the file as it is."""

    def write(room: Room) -> Path:
        url = room.data(file, rows if isinstance(rows, bytes) else lines(rows))
        check = {"name": "rival", "type": "SelfWinRate", "selfWinRate": {"answers": {"url": url} | given}}
        return _run(room, check)

    return write


def judged(judge: dict[str, Any], *helpers: dict[str, str], **check: Any) -> Callable[[Room], Path]:
    """A run whose answers another judges."""
    return lambda room: _run(room, {"name": "w", "type": "SelfWinRate", "judge": judge} | check, *helpers)


def arena_hard(
    questions: Iterable[object] = QUESTIONS, format: str = "ArenaHard", columns: Mapping[str, str] = BY_UID
) -> Callable[[Room], Path]:
    """A run whose answers to a benchmark's questions are written for it."""

    def write(room: Room) -> Path:
        held = {"url": room.data("held.jsonl", lines(questions)), "columns": columns}
        check = {"name": "arena", "type": "Export", "export": {"format": format}}
        return room.run({"evaluation": {"when": "EachIteration", "prompts": held, "checks": [check]}})

    return write


def mt_bench(questions: Iterable[object]) -> Callable[[Room], Path]:
    """A run that is asked these questions of two turns."""

    def write(room: Room) -> Path:
        asked = {"url": room.data("question.jsonl", lines(questions))}
        return _run(room, {"name": "mt", "type": "Export", "export": {"format": "MTBench", "questions": asked}})

    return write


def _run(room: Room, check: dict[str, Any], *helpers: dict[str, str]) -> Path:
    held = {"url": room.data("held.jsonl", lines(HELD))}
    evaluation = {"when": "EachIteration", "prompts": held, "checks": [check]}
    return room.run({"evaluation": evaluation} | ({"auxiliaryModels": list(helpers)} if helpers else {}))


def refused(name: str, write: Callable[[Room], Path], *says: str) -> Case:
    """A run that is refused in these words."""
    return Case(name, write, code=64, says=says)


PROMPTS, TWO = [row["prompt"] for row in HELD], ["two"] * 4

CASES = [
    Case("answers of another model", against_file(), reads={SOURCE: {"prompt": PROMPTS, "response": TWO}}),
    Case(
        "answers in the columns of AlpacaEval's outputs",
        against_file(
            [{"instruction": prompt, "output": "two", "generator": "m"} for prompt in PROMPTS],
            columns={"prompt": "instruction", "response": "output"},
        ),
        reads={SOURCE: {"prompt": PROMPTS, "response": TWO}},
    ),
    Case(
        "answers as a table of a spreadsheet",
        against_file("\r\n".join(["prompt,response", *(f"{prompt},two" for prompt in PROMPTS)]).encode(), "rival.csv"),
        reads={SOURCE: {"prompt": PROMPTS, "response": TWO}},
    ),
    Case(
        "an empty answer, and one that is none",
        against_file([*RIVAL[:2], HELD[2] | {"response": ""}, HELD[3] | {"response": None}]),
        says=("The answers that check rival compares with lack 1 of 4 held-out prompts: these do not count",),
        reads={SOURCE: {"response": ["two", "two", "", None]}},
    ),
    Case(
        "answers to more than is asked",
        against_file([*RIVAL, {"prompt": "Another?", "response": "yes"}]),
        never=("compares with lack",),
    ),
    refused(
        "answers to other prompts",
        against_file([{"prompt": "Another?", "response": "yes"}]),
        "spec.evaluation.checks[rival].selfWinRate.answers.url",
        "has an answer to none of the 4 held-out prompts",
    ),
    refused("a file of prompts", against_file(HELD), "has no column response", "write columns: {response: COLUMN}"),
    refused("a file that is not there", lambda room: _run(room, _lost(room)), "answers.url", "there is nothing at"),
    refused("a file without rows", against_file(b"", "rival.jsonl"), "checks[rival].selfWinRate.answers.url"),
    refused(
        "answers of a conversation",
        against_file([row | {"response": [{"role": "assistant", "content": "two"}]} for row in HELD]),
        "response is a conversation",
    ),
    Case("a helper that writes judges", judged({"modelName": "strong"}, STRONG)),
    Case("a helper that scores judges", judged({"modelName": "reward"}, REWARD)),
    Case(
        "the model as given judges, against the iteration before",
        judged({"modelName": "initial", "method": "generate"}, selfWinRate={"against": "previous"}),
    ),
    refused(
        "a judge that is not there",
        judged({"modelName": "gpt-4"}),
        "the judge of a check is no model that writes or scores",
    ),
    refused(
        "a judge that scores, asked for log-probabilities",
        judged({"modelName": "reward", "method": "logprobs"}, REWARD),
        "remove judge.method: it follows the model",
    ),
    Case(
        "questions of Arena-Hard", arena_hard(), reads={"evaluation": {"prompt": PROMPTS, "id": ["0", "1", "2", "3"]}}
    ),
    refused(
        "questions whose column of ids is called otherwise",
        arena_hard(columns={"id": "question_id"}),
        "evaluation.prompts.columns.id",
        "has no column question_id",
    ),
    refused(
        "a category where the ids should be",
        arena_hard(columns={"id": "category"}),
        "spec.evaluation.prompts.columns.id",
        "hard_prompt is the id of 4 of 4 rows; write the column that tells the questions apart",
    ),
    refused(
        "a question without its id",
        arena_hard([HELD[0] | {"uid": ""}, *QUESTIONS[1:]]),
        "1 of 4 rows have an empty id, the first held.jsonl, line 1",
    ),
    refused("questions without ids", arena_hard(columns={"prompt": "prompt"}), "ArenaHard finds answers by the ids"),
    refused(
        "MT-Bench's answers without its questions",
        arena_hard(format="MTBench"),
        "are MT-Bench's own, of two turns each; write format: MTBench and questions: {url: ...} together",
    ),
    Case(
        "MT-Bench's questions",
        mt_bench(TURNS),
        reads={
            "questions-mt": {
                "question_id": ["81", "82"],
                "turns": ['["Say red.", "Again."]', '["Say blue.", "Again."]'],
            }
        },
    ),
    refused(
        "a question of MT-Bench's as one text",
        mt_bench([TURNS[0], TURNS[1] | {"turns": "one"}]),
        "line 2",
        "is text, where the turns of a question, a list of texts, are read",
    ),
    refused(
        "a question of MT-Bench's without turns",
        mt_bench([TURNS[0] | {"turns": []}]),
        "where the turns of a question, a list of texts, are read",
    ),
    refused(
        "a question of MT-Bench's without an id",
        mt_bench([TURNS[0] | {"question_id": None}]),
        "1 of 1 rows have an empty question_id",
    ),
    refused(
        "questions without a category", mt_bench([{"question_id": 1, "turns": ["a", "b"]}]), "has no column category"
    ),
    refused(
        "a helper that nobody asks",
        judged({"modelName": "initial"}, STRONG),
        "auxiliaryModels[strong]",
        "nothing of this run uses it",
    ),
]


def _lost(room: Room) -> dict[str, Any]:
    """Answers in a file that nobody has written."""
    url = (room.folder / "nowhere.jsonl").as_uri()
    return {"name": "rival", "type": "SelfWinRate", "selfWinRate": {"answers": {"url": url}}}
