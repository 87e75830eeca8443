"""Recipe FSPO where the run makes the labels (arXiv 2502.19312): scripted models answer from viewpoints and judge for users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from played_plan import run_job
from test_generate_loop import Letters

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.plan import FlowJob, Generate, ModelRef, Prepare, SourceRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.flow import Comparison
from selfalign_jobs.generate.engine import EngineRequest, Labels, Sample
from selfalign_jobs.generate.records import Record
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes import users
from selfalign_jobs.recipes.base import Step, recipe
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tastes import asked_questions, users_to_ask, viewpoints

FSPO = recipe("fspo")
END = Letters.end_id
ROLES = [
    {"name": "listViews", "template": "L{{ views }}|{{ prompt }}"},
    {"name": "respondView", "template": "R{{ view }}|{{ prompt }}"},
    {"name": "describeUser", "template": "D{{ description }}|{{ chosen }}"},
    {"name": "judge", "template": "J{{ description }}|{{ prompt }}|{{ first }}|{{ second }}|"},
    {"name": "respond", "template": "{% for shot in shots %}{{ shot.chosen }}{% endfor %}{{ prompt }}"},
]
SPEC: dict[str, Any] = {
    "recipe": "fspo",
    "model": {"url": "file:///m"},
    "auxiliaryModels": [{"name": "big", "url": "file:///b"}],
    "data": {"users": {"url": "file:///u.jsonl"}, "prompts": {"url": "file:///p.jsonl"}},
    "generation": {"roles": [role | {"maxTokens": 8} for role in ROLES]},
    "judge": {"modelName": "big", "verdicts": ["A", "B"]},
    "evaluation": {"when": "Never"},
    "fspo": {"shots": 2, "questionsPerUser": 5, "viewsPerQuestion": 2, "responderModelNames": ["initial", "big"]},
}
SOURCES = {
    "users": pa.table({"description": ["likes a", "likes b", "torn"]}),
    "prompts": pa.table({"prompt": [f"q{n}" for n in range(6)] + ["q0", "mute"]}),
}


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    return method_of(method_values(parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, ""), "CPU", {}, Path()))


def writes(model: ModelRef, text: str) -> str:
    """Viewpoints are a and b; an answer is its question, the viewpoint and the model; a reason is the chosen viewpoint."""
    role, (first, second) = text[0], text[1:].removesuffix(".").split("|")[:2]
    if role == "L":
        return "" if second == "mute" else "- a\n2) b\n* c"
    if role == "R":
        return f"{second}{model.lineage[0]}{first}"
    return f"they {second[-1]}"  # D: after the chosen answer


def prefers(text: str) -> float:
    """By how many nats the answer shown first is better: what a person likes is the last word of them; the torn like neither."""
    description, _, first, second = text[1:].split("|")[:4]
    taste = description.split()[-1]
    if taste == "torn" or first[-1] == second[-1]:
        return 1.0  # of whatever is shown first
    return 2.0 if first[-1] == taste else -2.0


def play(job: FlowJob, model: ModelRef, rows: pa.Table, words: Callable[[str], str] | None = None) -> list[Record]:
    def answer(request: EngineRequest) -> Any:
        text = "".join(map(chr, request.prompt_ids))
        if isinstance(request.task, Labels):
            return Comparison(prefers(text), 0.0)
        said = words(text) if words is not None and text[0] == "J" else writes(model, text)
        return (Sample((*map(ord, said), END), "stop"),)

    return run_job(FSPO, job, FakeEngine(answer), Renderer(Letters(), job.roles, 256), rows)


class Played:
    """The plan's generation played: its tables, and why records made none."""

    def __init__(self, steps: tuple[Step, ...], words: Callable[[str], str] | None = None) -> None:
        self.tables: dict[str, pa.Table] = {}
        self.lost: dict[str, list[str | None]] = {}
        (step,) = (step for step in steps if isinstance(step, Generate))
        for load in step.loads:
            for job in load.jobs:
                records = play(job, load.model, self.prepared(job.rows), words)
                rows = [row for record in records if record.status == "rows" for row in record.rows]
                self.tables[job.out] = pa.Table.from_pylist(rows, FSPO.flows[job.flow].schema)
                self.lost[job.out] = [record.reason for record in records if record.status != "rows"]

    def prepared(self, prepare: Prepare) -> pa.Table:
        inputs = tuple(
            SOURCES[ref.name] if isinstance(ref, SourceRef) else self.tables[ref.name] for ref in prepare.inputs
        )
        return FSPO.prepares[prepare.fn].run(inputs, prepare.options)

    def labels_of(self, description: str) -> list[dict[str, Any]]:
        """Those of the user who began so, in their order."""
        rows = self.tables["labels"].to_pylist()
        (user,) = {row["user"] for row in rows if row["number"] == 1 and row["description"] == description}
        return [row for row in rows if row["user"] == user]


@pytest.fixture(name="played", scope="module")
def _played() -> Played:
    return Played(FSPO.plan(method()))


def test_responders_answer_one_after_another_then_the_judge_labels_and_both_trainings_read_its_labels() -> None:
    generate, fit, prefer = FSPO.plan(method())
    assert isinstance(generate, Generate) and isinstance(fit, Train) and isinstance(prefer, Train)
    big = ModelRef(lineage="big")
    assert [(load.model, [job.out for job in load.jobs]) for load in generate.loads] == [
        (ModelRef(), ["views-initial"]),
        (big, ["views-big"]),
        (big, ["labels"]),
    ]
    assert [ref.name for step in (fit, prefer) for ref in step.data.inputs] == ["labels", "labels"]


def test_each_question_is_answered_once_from_each_viewpoint_by_each_responder(played: Played) -> None:
    for name, letter in (("initial", "p"), ("big", "b")):
        rows = played.tables[f"views-{name}"].to_pylist()
        by_hand = [
            (f"q{n}", view, f"q{n}{letter}{view}") for n in range(6) for view in "ab"
        ]  # a third is not asked for
        assert sorted((row["prompt"], row["view"], row["answer"]) for row in rows) == by_hand
        assert played.lost[f"views-{name}"] == ["no two viewpoints"]


def test_a_user_who_knows_what_they_like_has_labels_that_need_no_picking(played: Played) -> None:
    for taste in "ab":
        labels = played.labels_of(f"likes {taste}")
        assert [label["number"] for label in labels] == [1, 2, 3, 4, 5]
        assert len({label["prompt"] for label in labels}) == 5
        for label in labels:
            endings = {label["chosen"][-1], label["rejected"][-1]}
            assert label["chosen"].startswith(label["prompt"]) and label["rejected"].startswith(label["prompt"])
            assert label["picked"] == (
                len(endings) == 1
            )  # both answers from one viewpoint: the judge takes what is first
            assert label["picked"] or label["chosen"][-1] == taste


def test_where_the_description_does_not_decide_the_pick_becomes_part_of_it(played: Played) -> None:
    """The description that labels a question is the one after the label before it."""
    labels = played.labels_of("torn")
    description = "torn"
    for label in labels:
        assert label["description"] == description
        decided = description != "torn" and label["chosen"][-1] != label["rejected"][-1]
        assert label["picked"] == (not decided)
        assert label["reason"] == (f"they {label['chosen'][-1]}" if label["picked"] else None)
        if decided:
            assert label["chosen"][-1] == description[-1]
        description += f" {label['reason']}" if label["picked"] else ""
    assert labels[0]["picked"]


def test_a_replay_makes_the_same_labels(played: Played) -> None:
    assert Played(FSPO.plan(method())).tables["labels"] == played.tables["labels"]
    again = Played(FSPO.plan(method(seed=1))).tables["labels"]
    assert again != played.tables["labels"]


def test_a_verdict_that_cannot_be_read_is_no_label_and_no_pick() -> None:
    judge = {"modelName": "big", "method": "generate"}

    def words(text: str) -> str:
        return "hm" if "|q1|" in text else "ranking: A > B" if prefers(text) > 0 else "ranking: B > A"

    found = Played(FSPO.plan(method(judge=judge)), words)
    rows = found.tables["labels"].to_pylist()
    asked = found.prepared(FSPO.plan(method())[0].then[-1].jobs[0].rows).to_pylist()  # type: ignore[union-attr]
    without = {row["user"]: sum(item["prompt"] == "q1" for item in row["items"]) for row in asked}
    assert {row["user"]: row["unread"] for row in rows} == without
    assert "q1" not in {row["prompt"] for row in rows}
    assert len(rows) == 15 - sum(without.values()) < 15
    nothing = Played(FSPO.plan(method(judge=judge)), lambda _: "hm")
    assert nothing.lost["labels"] == ["no verdict could be read"] * 3


def test_labels_at_random_are_a_control_that_asks_nobody() -> None:
    found = Played(FSPO.plan(method(judge={"modelName": "big", "method": "random"})))
    rows = found.tables["labels"].to_pylist()
    assert len(rows) == 15 and not any(row["picked"] for row in rows)


def test_windows_of_made_labels_are_dealt_as_those_that_are_given(played: Played) -> None:
    fit = FSPO.plan(method())[1]
    assert isinstance(fit, Train)
    made = FSPO.prepares["windows"].run((played.tables["labels"],), fit.data.options).to_pylist()
    assert len(made) == 3 * 6 * (5 // 3)  # users, shuffles, blocks
    labels = {(row["user"], row["prompt"]): row["chosen"] for row in played.tables["labels"].to_pylist()}
    for window in made:
        assert window["target"] == labels[window["user_id"], window["prompt"]]
        assert [shot["chosen"] for shot in window["shots"]] == [
            labels[window["user_id"], shot["prompt"]] for shot in window["shots"]
        ]


# --- the tables -------------------------------------------------------------------------------------------------------------


def options(**given: Any) -> dict[str, Any]:
    values = {"seed": 0, "apart": 0, "part": 0, "parts": 1, "blank": False, "count": None, "users": None}
    return values | {"shots": 1, "questions": 4} | given


ANSWERS = pa.table({"prompt": ["p", "p", "q", "q", "r"], "answer": ["one", "two", "one", "one ", "one"]})


def test_a_question_with_one_answer_is_asked_of_nobody() -> None:
    more = pa.table({"prompt": ["q", "s", "s"], "answer": ["two", "one", "two"]})
    asked = users_to_ask((SOURCES["users"], ANSWERS, more), options()).to_pylist()
    assert sorted(row["description"] for row in asked) == sorted(SOURCES["users"]["description"].to_pylist())
    for row in asked:
        assert sorted(item["prompt"] for item in row["items"]) == ["p", "q", "s"]
        assert all({item["first"], item["second"]} == {"one", "two"} for item in row["items"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: users_to_ask((SOURCES["users"], ANSWERS), options()),
            "leaves 1 of 3 questions with two different answers",
        ),
        (
            lambda: users_to_ask((SOURCES["users"], ANSWERS), options(count=4, shots=0)),
            "4 rows are needed and there are 3",
        ),
        (
            lambda: asked_questions((SOURCES["prompts"], SOURCES["users"]), options(users=4)),
            "4 rows are needed and there are 3",
        ),
        (lambda: asked_questions((SOURCES["prompts"], SOURCES["users"]), options(shots=7)), "has 7 questions"),
    ],
)
def test_too_little_is_refused(make: Callable[[], pa.Table], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="-*•.)0123456789"), min_size=1),
        unique=True,
    ),
    st.sampled_from(["", "- ", "* ", "• ", "1. ", "12) "]),
)
def test_viewpoints_are_the_lines_of_a_list_without_its_bullets(views: list[str], bullet: str) -> None:
    assert viewpoints("\n\n".join(f"{bullet}{view}" for view in views)) == views
    assert viewpoints("\n".join([*views, *views])) == views


def test_built_in_users_are_many_and_no_two_alike() -> None:
    table = users.table()
    assert len(set(table["description"].to_pylist())) == users.COUNT >= 100_000
