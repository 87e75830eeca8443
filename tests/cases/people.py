"""Preferences of people as people have them: whose they are, and what the trainings of a taste can be made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import lines

ROWS = [
    {
        "user": f"user-{user}",
        "description": "terse" if user % 2 else "verbose",
        "prompt": f"Count these words: {'cat ' * (1 + number)}",
        "chosen": f"{number} words",
        "rejected": f"{number}",
    }
    for user in range(12)
    for number in range(6)
]


def with_people(rows: Iterable[object] = ROWS, **spec: Any) -> Callable[[Room], Path]:
    """A run on these rows."""

    def write(room: Room) -> Path:
        return room.run(
            {
                "recipe": "fspo",
                "data": {"preferences": {"url": room.data("people.jsonl", lines(rows))}},
                "generation": {"precision": "float32", "roles": [{"name": "respond", "maxTokens": 16}]},
                "iterations": None,
                "judge": None,
                "training": None,
                "evaluation": {"when": "Last"},
                "fspo": {"shots": 2},
            }
            | spec
        )

    return write


def refused(name: str, *says: str, **given: Any) -> Case:
    """A run that is refused in these words."""
    return Case(name, with_people(**given), code=64, says=says)


DESCRIBED = {"shots": 2, "describeUser": "BeforeAnswer"}

REQUESTS = [{"prompt": f"Count these words: {'cat ' * (1 + number)}"} for number in range(12)]
LIKES = [{"description": f"a person number {number} who likes cats"} for number in range(6)]


def with_users(
    users: Iterable[object] = LIKES, prompts: Iterable[object] = REQUESTS, **spec: Any
) -> Callable[[Room], Path]:
    """A run whose labels these users give."""

    def write(room: Room) -> Path:
        data = {
            "users": {"url": room.data("users.jsonl", lines(users))},
            "prompts": {"url": room.data("prompts.jsonl", lines(prompts))},
        }
        roles = [{"name": name, "maxTokens": 16} for name in ("listViews", "respondView", "describeUser", "respond")]
        made: dict[str, Any] = {
            "data": data,
            "generation": {"precision": "float32", "roles": roles},
            "fspo": {"shots": 2, "questionsPerUser": 4},
        }
        return with_people(**(made | spec))(room)

    return write


def unasked(name: str, *says: str, **given: Any) -> Case:
    """A run of users that is refused in these words."""
    return Case(name, with_users(**given), code=64, says=says)


CASES = [
    Case(
        "users and what they are asked",
        with_users(),
        reads={"users": {"description": [row["description"] for row in LIKES]}},
    ),
    Case(
        "users in another column",
        with_users([{"who": row["description"]} for row in LIKES], **{"data.users.columns": {"description": "who"}}),
        reads={"users": {"description": [row["description"] for row in LIKES]}},
    ),
    Case("built-in users", with_users(**{"data.users": {"count": 5}})),
    unasked("users who are not described", "users.jsonl has no column description", users=[{"name": "ann"}] * 3),
    unasked("more users than there are", "9 rows are needed and there are 6", **{"data.users.count": 9}),
    unasked("more questions than there are", "20 rows are needed and there are 12", **{"data.prompts.count": 20}),
    unasked(
        "fewer questions than a window has",
        "has 2 questions, and a user is shown with fspo.shots: 2",
        prompts=REQUESTS[:2],
    ),
    unasked("the same question for all", "has 1 questions", prompts=REQUESTS[:1] * 12),
    unasked(
        "fewer questions a user than a window has",
        "write more questionsPerUser, or fewer shots",
        fspo={"shots": 4, "questionsPerUser": 4},
    ),
    unasked(
        "one answer to a question", "one answer to a question is no pair", fspo={"shots": 2, "viewsPerQuestion": 1}
    ),
    unasked(
        "a responder that is not there",
        "names no model that writes",
        fspo={"shots": 2, "responderModelNames": ["initial", "big"]},
    ),
    unasked(
        "a responder that scores",
        "names no model that writes",
        auxiliaryModels=[{"name": "reward", "kind": "RewardModel", "url": "pvc://selfalign/tiny-model/reward-model"}],
        fspo={"shots": 2, "responderModelNames": ["initial", "reward"]},
    ),
    unasked(
        "a judge that scores",
        "told what the user is like; write judge.method: logprobs or generate",
        auxiliaryModels=[{"name": "reward", "kind": "RewardModel", "url": "pvc://selfalign/tiny-model/reward-model"}],
        judge={"method": "score", "modelName": "reward"},
    ),
    unasked(
        "a judge who is not told what the user is like",
        "roles[judge].template",
        "leaves out description",
        **{"generation.roles": [{"name": "judge", "template": "{{ prompt }} {{ first }} {{ second }}"}]},
    ),
    unasked(
        "answers that no viewpoint shows in",
        "roles[respondView].template",
        "leaves out view",
        **{"generation.roles": [{"name": "respondView", "template": "{{ prompt }}"}]},
    ),
    refused(
        "questions beside labels",
        "fspo reads preferences that say whose they are, or",
        **{"data.prompts": {"url": "./x.jsonl"}},
    ),
    refused(
        "options of labels that are made",
        "is of labels that the run makes, and data.preferences has them; remove questionsPerUser",
        fspo={"shots": 2, "questionsPerUser": 4},
    ),
    Case(
        "preferences of people",
        with_people(),
        reads={"preferences": {"user": [row["user"] for row in ROWS], "chosen": [row["chosen"] for row in ROWS]}},
    ),
    Case(
        "people whose ids are numbers",
        with_people([row | {"user": number // 6} for number, row in enumerate(ROWS)]),
        reads={"preferences": {"user": [str(number // 6) for number in range(len(ROWS))]}},
    ),
    Case(
        "people in another column",
        lambda room: with_people(
            [{"who": row["user"]} | {name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS],
            **{"data.preferences.columns": {"user": "who"}},
        )(room),
        reads={"preferences": {"user": [row["user"] for row in ROWS]}},
    ),
    Case(
        "people who are described",
        with_people(fspo=DESCRIBED),
        reads={"preferences": {"description": [row["description"] for row in ROWS]}},
    ),
    refused(
        "preferences that do not say whose they are",
        "people.jsonl has no column user; it has prompt, chosen, rejected",
        "write columns: {user: COLUMN}",
        rows=[{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in ROWS],
    ),
    refused("a row of nobody", "1 of 73 rows have an empty user", rows=[*ROWS, ROWS[0] | {"user": " "}]),
    refused(
        "a person who is not described",
        "1 of 73 rows have an empty description",
        rows=[*ROWS, ROWS[0] | {"description": ""}],
        fspo=DESCRIBED,
    ),
    refused(
        "nobody is described",
        "has no column description",
        rows=[{name: row[name] for name in row if name != "description"} for row in ROWS],
        fspo=DESCRIBED,
    ),
    refused(
        "descriptions that nothing reads",
        "spec.data.preferences.columns.description",
        "write fspo: {describeUser: BeforeAnswer}",
        **{"data.preferences.columns": {"description": "description"}},
    ),
    refused(
        "people with fewer questions than a window has",
        "has no user with pairs about 9 questions",
        "write a smaller fspo.shots",
        fspo={"shots": 8},
    ),
    refused("one person", "has too little to hold out of 1 users", "evaluation: {when: Never}", rows=ROWS[:6]),
    refused(
        "too few rows of a few people", "has no user with pairs about 3 questions", **{"data.preferences.count": 2}
    ),
    refused(
        "the same question again and again",
        "has no user with pairs about 3 questions",
        rows=[row | {"prompt": "Count these words: cat"} for row in ROWS],
    ),
    refused(
        "whose answers are all equal",
        "chosen equals rejected in all 72 rows",
        rows=[row | {"rejected": row["chosen"]} for row in ROWS],
    ),
    refused("rounds", "fspo makes one round; write iterations: 1", iterations=3),
    refused(
        "a policy of rounds",
        "from and against what its stage sft made; remove iteration",
        iteration={"start": "previous"},
    ),
    refused(
        "prompts that are held out",
        "fspo asks for what users of its own data prefer",
        evaluation={"prompts": {"url": "./heldout.jsonl"}},
    ),
    refused(
        "a stage of another recipe",
        "recipe fspo has the further trainings sft",
        training={"stages": [{"name": "warmUp", "epochs": 1}]},
    ),
    refused(
        "a template that shows nothing of the person",
        "roles[respond].template",
        "leaves out shots",
        **{"generation.roles[respond].template": "{{ prompt }}"},
    ),
    refused(
        "a template that does not ask",
        "roles[respond].template",
        "leaves out prompt",
        **{"generation.roles[respond].template": "{% for shot in shots %}{{ shot.chosen }}{% endfor %}"},
    ),
    refused(
        "a template of shots by another name",
        "roles[respond].template",
        "cannot be rendered",
        **{"generation.roles[respond].template": "{% for shot in shots %}{{ shot.answer }}{% endfor %}{{ prompt }}"},
    ),
    refused("no shots", "spec.fspo.shots: 0 must be at least 1", fspo={"shots": 0}),
    refused(
        "an option that is not there", "spec.fspo.describeUser: After is not one of", fspo={"describeUser": "After"}
    ),
    refused(
        "whose answers end a turn",
        "spec.data.preferences.turn: Last: fspo shows a user's pairs of one turn each",
        **{"data.preferences.turn": "Last"},
    ),
]
