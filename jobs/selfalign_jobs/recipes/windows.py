"""FSPO's windows: so many pairs of one user as shots, and one more of the same user, about another question, as the target.

Whole-table functions over pairs that carry a user. A tenth of the users, and a tenth of the questions, are held out: neither
is in any window that is trained on, as target or as shot.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.recipes.few_shot import SHOT_FIELDS, described, turn
from selfalign_jobs.recipes.tables import joined_answers, with_counts

Row = Mapping[str, Any]
Questions = dict[str, list[Row]]  # of a user: question -> its pairs

APART = 10  # percent of users, and of questions, that are held out [ours]
SHOTS = pa.list_(pa.struct([(name, pa.string()) for name in SHOT_FIELDS]))
_SHOWN = [("prompt", pa.string()), ("user_id", pa.string()), ("shots", SHOTS)]
PAIRS = pa.schema([*_SHOWN, ("chosen", pa.string()), ("rejected", pa.string())])  # `prompt` is the question alone
TARGETS = pa.schema([*_SHOWN, ("target", pa.string())])
ASKED = pa.schema(  # `prompt` is the whole turn, which tells a window from the others
    [
        *_SHOWN,
        ("question", pa.string()),
        ("description", pa.string()),
        ("other_shots", SHOTS),
        ("reference", pa.string()),
    ]
)
CHUNK = 2048  # windows that are objects of Python's at a time


@dataclass(frozen=True)
class People:
    """Who prefers what: the pairs of each user by their questions."""

    of_user: dict[str, Questions]
    held_users: frozenset[str]
    held_questions: frozenset[str]
    identical: int  # rows whose answers are the same text
    several_turns: int  # rows that go on with a conversation

    def trained(self) -> Iterator[tuple[str, Questions]]:
        """The users who are trained on, with what of theirs is."""
        for user, own in self.of_user.items():
            if user not in self.held_users:
                yield user, {question: rows for question, rows in own.items() if question not in self.held_questions}


def people(table: pa.Table, options: Mapping[str, Json]) -> People:
    """The users of a table: so many rows as are drawn, whole users of a seeded shuffle, and who and what is held out."""
    seed, apart = options["seed"], options["apart"]
    rows = _drawn(table.to_pylist(), options["count"], seed)
    of_user: dict[str, Questions] = {}
    identical = several = 0
    for row in rows:
        if row.get("history") is not None:
            several += 1
        elif options["identical"] == "Drop" and row["chosen"] == row["rejected"]:
            identical += 1
        else:
            of_user.setdefault(row["user"], {}).setdefault(row["prompt"], []).append(row)
    questions = dict.fromkeys(question for own in of_user.values() for question in own)
    return People(
        of_user,
        _held([*of_user], apart, random.Random(seed_of(seed, "held-out users"))),
        _held([*questions], apart, random.Random(seed_of(seed, "held-out questions"))),
        identical,
        several,
    )


def _drawn(rows: list[Row], count: int | None, seed: int) -> list[Row]:
    """The rows of whole users, in the order of a seeded shuffle of them, up to `count`; all without one."""
    if count is None:
        return rows
    users = [*dict.fromkeys(row["user"] for row in rows)]
    random.Random(seed_of(seed, "draw")).shuffle(users)
    place = {user: number for number, user in enumerate(users)}
    return sorted(rows, key=lambda row: place[row["user"]])[:count]


def _held(values: list[str], percent: int, rng: random.Random) -> frozenset[str]:
    """A share of the values, rounded up, and never all of them."""
    number = min(-(-len(values) * percent // 100), len(values) - 1)
    return frozenset(rng.sample(values, max(0, number)))


def windows(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """What is trained on: the users' questions are shuffled and dealt into blocks of shots and a target, `shuffles` times.

    A question of several pairs is in a block with one of them, drawn. With `targets` the chosen answer alone is learned from.
    Raises ConfigError when nobody has questions enough.
    """
    (table,) = tables
    found = windows_of(table, options)
    few = sum(sum(map(len, own.values())) for _, own in found.trained() if len(own) <= options["shots"])
    schema, parts = TARGETS if options["targets"] else PAIRS, []
    made = _dealt(found, options)
    while chunk := [*islice(made, CHUNK)]:
        parts.append(pa.Table.from_pylist(chunk, schema))
    joined = pa.concat_tables([schema.empty_table(), *parts])
    counts = {"identical": found.identical, "goesOn": found.several_turns, "fewQuestions": few}
    return with_counts(joined, {"pairs": joined.num_rows} | counts)


def windows_of(table: pa.Table, options: Mapping[str, Json]) -> People:
    """The users of whom windows are made. Raises ConfigError when nobody has questions enough."""
    found, size = people(table, options), options["shots"] + 1
    most = max((len(own) for _, own in found.trained()), default=0)
    if table.num_rows and most < size:
        raise ConfigError.one(
            _field(table),
            f"has no user with pairs about {size} questions, as a window of fspo.shots: {options['shots']} and a target needs "
            f"(the most that one of {len(found.of_user):,} users has, without what is held out, is {most:,}); write a smaller "
            "fspo.shots, or give users with more rows",
        )
    return found


def windows_looked_at(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """What can be wrong with the windows of a table, without making them: none of them."""
    windows_of(tables[0], options)
    return PAIRS.empty_table()


def most_windows(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """Each pair is shown or asked once a shuffle."""
    return _pairs(rows, options) * int(options["shuffles"]) // (1 + int(options["shots"]))


def _pairs(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """Pairs of a table that are read: a user's label each, or `questions` of each of `count` users."""
    count = options["count"]
    return (rows[0] if count is None else min(rows[0], count)) * int(options.get("questions", 1))


def _dealt(found: People, options: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
    size = options["shots"] + 1
    for user, own in found.trained():
        for shuffle in range(options["shuffles"]):
            rng = random.Random(seed_of(options["seed"], "deal", user, shuffle))
            questions = rng.sample([*own], len(own))
            for first in range(0, len(questions) - size + 1, size):
                *shots, target = (rng.choice(own[question]) for question in questions[first : first + size])
                shown = {"prompt": target["prompt"], "user_id": user, "shots": _said(shots)}
                yield shown | _learned(target, options)


def held_out_windows(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """What is asked: `split` users has held-out users' questions, with shots of theirs; questions has held-out questions of
    users who are trained on, with shots that are too.

    `other_shots` are another user's, drawn, who may have the same taste. Users take turns, up to `most` windows, and no turn
    is asked twice. Raises ConfigError without any.
    """
    (table,) = tables
    found = people(table, options)
    asked = [_asked(user, found, options) for user in found.of_user]
    turns = (window for each in zip_longest(*asked) for window in each if window is not None)
    made = {window["prompt"]: window for window in islice(turns, options["most"])}
    if table.num_rows and not made:
        who = (
            f"one of the {len(found.held_users):,} held-out users has pairs about {options['shots'] + 1} questions"
            if options["split"] == "users"
            else f"one of the {len(found.held_questions):,} held-out questions is one of a user's with {options['shots']} others"
        )
        raise ConfigError.one(
            _field(table),
            f"has too little to hold out of {len(found.of_user):,} users: not {who}; give more rows, write a smaller fspo.shots, "
            "or evaluation: {when: Never}",
        )
    return pa.Table.from_pylist([*made.values()], ASKED)


def most_held_out_windows(rows: Sequence[int], options: Mapping[str, Json]) -> int:
    """Each pair is asked once, up to `most`."""
    return min(_pairs(rows, options), int(options["most"]))


def joined_for_users(tables: tuple[pa.Table, ...], options: Mapping[str, Json]) -> pa.Table:
    """The old and the new model's answers to the windows of a split, and what their users are like, where that is known."""
    before, after, labelled = tables
    both = joined_answers((before, after), options)
    asked = held_out_windows((labelled,), options)
    known = dict(zip(asked["prompt"].to_pylist(), asked["description"].to_pylist(), strict=True))
    return both.append_column(
        "description", pa.array([known.get(prompt) for prompt in both["prompt"].to_pylist()], pa.string())
    )


def _field(table: pa.Table) -> str:
    """Where the rows come from: a table of the user's has what was said before, or labels of the run's own."""
    return "spec.data.preferences.url" if "history" in table.column_names else "spec.fspo.questionsPerUser"


def _asked(user: str, found: People, options: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
    """The windows of a user in a split, none for who is not in it."""
    shots, own = options["shots"], found.of_user[user]
    is_new = user in found.held_users
    if is_new != (options["split"] == "users"):
        return
    rng = random.Random(seed_of(options["seed"], "ask", user))
    shown = (
        own if is_new else {question: rows for question, rows in own.items() if question not in found.held_questions}
    )
    for question in rng.sample([*own], len(own)):
        others = [other for other in shown if other != question]
        if len(others) < shots or not (is_new or question in found.held_questions):
            continue
        target = rng.choice(own[question])
        window = _window(_shots_of(shown, others, shots, rng), target, options)
        stranger = _shots_of_another(user, question, found, shots, rng)
        yield window | {"other_shots": _said(stranger), "reference": target["chosen"]}


def _shots_of(own: Questions, questions: Sequence[str], shots: int, rng: random.Random) -> list[Row]:
    return [rng.choice(own[question]) for question in rng.sample(questions, shots)]


def _shots_of_another(user: str, question: str, found: People, shots: int, rng: random.Random) -> list[Row]:
    """Shots of any other user who has so many; none where nobody has."""
    for other in rng.sample([*found.of_user], len(found.of_user)):
        own = found.of_user[other]
        questions = [each for each in own if each != question]
        if other != user and len(questions) >= shots:
            return _shots_of(own, questions, shots, rng)
    return []


def _window(shots: Sequence[Row], target: Row, options: Mapping[str, Json]) -> dict[str, Any]:
    said = _said(shots)
    return {
        "prompt": turn(options["turn"], said, target["prompt"]),
        "user_id": target["user"],
        "question": target["prompt"],
        "description": target.get("description"),
        "shots": said,
    }


def _said(shots: Iterable[Row]) -> list[dict[str, str]]:
    return [{name: shot[name] for name in SHOT_FIELDS} for shot in shots]


def _learned(target: Row, options: Mapping[str, Json]) -> dict[str, str]:
    """The answers of a window that is trained on, after the description where that is written first."""
    chosen, rejected = target["chosen"], target["rejected"]
    if options["describe"]:
        chosen, rejected = (described(target["description"], answer) for answer in (chosen, rejected))
    return {"target": chosen} if options["targets"] else {"chosen": chosen, "rejected": rejected}
