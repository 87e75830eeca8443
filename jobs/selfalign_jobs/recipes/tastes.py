"""How FSPO has preferences made where none are given: answers from several viewpoints, by several models; and labels of users.

Each question is answered once from each of some viewpoints by each responder. Each user is asked about questions, drawn; of
two answers, drawn, a judge says which this user prefers, who is told what the user is like. Where that does not decide, one
is picked at random and the reason for it becomes part of what the user is like: so a user's labels come one after another,
and users beside one another.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.plan_values import Json
from selfalign_jobs.flow import Ask, Dropped, Request, Row, SetAside, seed_of
from selfalign_jobs.gather import row_numbers
from selfalign_jobs.recipes.answers import normalised
from selfalign_jobs.recipes.base import Rows
from selfalign_jobs.recipes.judge import JUDGE_VARIABLES, Verdict, judge
from selfalign_jobs.recipes.rows import VERDICT_FIELDS
from selfalign_jobs.recipes.tables import drawn_numbers

LIST_VIEWS = """\
Name {{ views }} viewpoints from which the question below can be answered: of people with other needs, knowledge, or taste. \
Write one viewpoint a line and nothing else.

[Question]
{{ prompt }}
"""

RESPOND_VIEW = """\
Answer the question below from this viewpoint, without naming it: {{ view }}

[Question]
{{ prompt }}
"""

DESCRIBE_USER = """\
A person, described below, prefers the first of two answers to a question. Write one sentence that begins with "They" and says \
what the person likes, beside what is known of them, so that they prefer it.

[Person]
{{ description }}

[Question]
{{ prompt }}

[Preferred answer]
{{ chosen }}

[Other answer]
{{ rejected }}
"""

JUDGE_FOR_USER = """\
A person has two answers to a question before them. Which of the two does this person prefer? Go by what the person is like \
alone{{ ", by " ~ (criteria | join(", ")) if criteria }}; the length of an answer and the order in which they are shown say \
nothing.

[Person]
{{ description }}

[Question]
{{ prompt }}

[Answer A]
{{ first }}

[Answer B]
{{ second }}

Write exactly one line, "ranking: A > B" if the person prefers answer A, or "ranking: B > A" if the person prefers answer B.
"""
CRITERIA = ["needs", "knowledge", "taste"]
JUDGE_FOR_USER_VARIABLES = JUDGE_VARIABLES | {"description"}

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])?\s*")
SHOWN_CHARACTERS = 200  # of what was written without a viewpoint

Flow = Generator[Request | list[Request], Any, list[Row]]

ANSWERED = pa.schema([("prompt", pa.string()), ("view", pa.string()), ("answer", pa.string()), ("finish", pa.string())])
ITEMS = pa.list_(pa.struct([(name, pa.string()) for name in ("prompt", "first", "second")]))
ASKED = pa.schema([("user", pa.string()), ("description", pa.string()), ("items", ITEMS)])
LABELS = pa.schema(
    [
        ("user", pa.string()),
        ("number", pa.int32()),  # of the label, counted from 1
        ("description", pa.string()),  # what the user was like when it was made: after the label before it
        *((name, pa.string()) for name in ("prompt", "chosen", "rejected")),
        ("picked", pa.bool_()),  # at random: the description did not decide
        ("reason", pa.string()),  # what was added to the description for that
        ("unread", pa.int32()),  # questions of this user whose verdict could not be read
        *VERDICT_FIELDS,
    ]
)

# --- the flows: what happens to a question, and to a user -----------------------------------------------------------------


def answer_views(row: Row, ask: Ask) -> Flow:
    """Question → viewpoints → an answer from each."""
    prompt, views = row["prompt"], ask.options["views"]
    if views == 1:
        (written,) = yield ask.write("respondView", prompt=prompt, view="your own")
        replies, found = [[written]], ["your own"]
    else:
        (listed,) = yield ask.write("listViews", prompt=prompt, views=views)
        found = viewpoints(listed.text)[:views]
        if len(found) < 2:  # the list is none
            raise SetAside("no two viewpoints", listed.text[:SHOWN_CHARACTERS], row={"prompt": prompt})
        replies = yield [ask.write("respondView", prompt=prompt, view=view) for view in found]
    rows: list[Row] = [
        {"prompt": prompt, "view": view, "answer": answer.text.strip(), "finish": answer.finish_reason}
        for view, (answer,) in zip(found, replies, strict=True)
    ]
    kept = [
        row for row in rows if row["answer"] and not (ask.options["truncated"] == "Drop" and row["finish"] == "length")
    ]
    if not kept:
        raise Dropped("no answer is whole", row={"prompt": prompt})
    return kept


def viewpoints(text: str) -> list[str]:
    """The viewpoints of a list: its lines without bullets and numbers, each once."""
    lines = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return [*dict.fromkeys(line for line in lines if line)]


def label_user(row: Row, ask: Ask) -> Flow:
    """A user with pairs of answers → which of each pair they prefer, one label after another."""
    description: str = row["description"]
    labels: list[dict[str, Any]] = []
    unread = 0
    for item in row["items"]:
        verdict = yield from judge(ask, item["prompt"], item["first"], item["second"], description)
        pick = ask.seed("pick") % 2 == 0  # drawn for every label, so that none depends on what was decided before
        if "unparsed" in (verdict.forward, verdict.backward):
            unread += 1
            continue
        decided = prefers_first(verdict)
        first = pick if decided is None else decided
        chosen, rejected = (item["first"], item["second"]) if first else (item["second"], item["first"])
        said = {"prompt": item["prompt"], "chosen": chosen, "rejected": rejected}
        label = {"user": row["user"], "number": len(labels) + 1, "description": description, **said, **verdict.columns}
        labels.append(label | {"picked": decided is None, "reason": None})
        if decided is None:
            (written,) = yield ask.write("describeUser", description=description, **said)
            reason = " ".join(written.text.split())
            labels[-1]["reason"] = reason
            description = f"{description} {reason}".strip()
    if not labels:
        raise Dropped("no verdict could be read", row={"user": row["user"], "description": description})
    return [label | {"unread": unread} for label in labels]


def prefers_first(verdict: Verdict) -> bool | None:
    """Whether the first answer is preferred; None where the orders disagree or the verdict is a tie."""
    if verdict.better is None or (verdict.backward is not None and verdict.forward != verdict.backward):
        return None
    return verdict.better == "first"


# --- the tables -----------------------------------------------------------------------------------------------------------


def asked_questions(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """The questions that are answered: those drawn of the first table, each once. The second table has the users.

    Raises ConfigError when there are too few of either.
    """
    questions, users = tables
    drawn_numbers(users.num_rows, {**options, "count": options["users"]})
    table = questions.take(row_numbers(drawn_numbers(questions.num_rows, options)))
    distinct = pa.table({"prompt": pa.array([*dict.fromkeys(table["prompt"].to_pylist())], pa.string())})
    if table.num_rows and distinct.num_rows <= options["shots"]:
        raise ConfigError.one(
            "spec.data.prompts.url",
            f"has {distinct.num_rows} questions, and a user is shown with fspo.shots: {options['shots']} and asked another; give "
            "more, or write a smaller fspo.shots",
        )
    return distinct


def users_to_ask(tables: tuple[Rows, ...], options: Mapping[str, Json]) -> pa.Table:
    """Each user drawn of the first table, with questions and two answers to each; the other tables have the answers.

    Questions with one answer only are asked of nobody. Raises ConfigError when too few are left.
    """
    users, *answered = tables
    answers = _answers(answered)
    questions = [question for question, found in answers.items() if len(found) > 1]
    if answers and len(questions) <= options["shots"]:
        raise ConfigError.one(
            "spec.fspo.viewsPerQuestion",
            f"leaves {len(questions)} of {len(answers)} questions with two different answers, and windows need "
            f"{options['shots'] + 1}; write more viewsPerQuestion or responderModelNames, or a higher "
            "temperature of respondView",
        )
    numbers = drawn_numbers(users.num_rows, options)
    found = users.take(row_numbers(np.asarray(numbers)))
    return pa.Table.from_pylist(
        [
            {
                "user": f"user-{number}",
                "description": description,
                "items": [*_items(number, questions, answers, options)],
            }
            for number, description in zip(numbers.tolist(), found["description"].to_pylist(), strict=True)
        ],
        ASKED,
    )


def _answers(tables: list[Rows]) -> dict[str, list[str]]:
    """The distinct answers to each question."""
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        for row in table.take(row_numbers(np.arange(table.num_rows))).to_pylist():
            found.setdefault(row["prompt"], {}).setdefault(normalised(row["answer"]), row["answer"])
    return {question: [*answers.values()] for question, answers in found.items()}


def _items(
    user: int, questions: list[str], answers: Mapping[str, list[str]], options: Mapping[str, Json]
) -> Iterator[dict[str, str]]:
    """The questions that a user is asked, and two answers to each in the order in which they are drawn."""
    rng = random.Random(seed_of(options["seed"], "asked", user))
    for question in rng.sample(questions, min(options["questions"], len(questions))):
        first, second = rng.sample(answers[question], 2)
        yield {"prompt": question, "first": first, "second": second}
