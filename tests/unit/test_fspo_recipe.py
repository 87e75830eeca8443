"""Recipe FSPO against the paper (arXiv 2502.19312): its windows by hand and by property, its plan, its answers, its card."""

from __future__ import annotations

from collections import Counter
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
from selfalign_api.load import load_run, parse
from selfalign_api.plan import Evaluate, FlowJob, ModelRef, Plan, SourceRef, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.sources import DataSource, ModelSource
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.accept.foreseen import most_pairs, most_rows
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.generate.engine import Answer, EngineRequest, Sample
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.few_shot import TURN, answer_of, described, turn, turns
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.recipes.windows import held_out_windows, people, windows
from selfalign_jobs.train.card import card
from selfalign_jobs.train.written import PAIR, TARGET, Fit, written

EXAMPLES = Path(__file__).parents[2] / "examples"
FSPO = recipe("fspo")
END = Letters.end_id
SHORT = "{% for shot in shots %}{{ shot.prompt }}:{{ shot.chosen }}>{{ shot.rejected }} {% endfor %}{{ prompt }}"
SPEC: dict[str, Any] = {
    "recipe": "fspo",
    "model": {"url": "file:///m"},
    "data": {"preferences": {"url": "file:///p.jsonl"}},
    "generation": {"roles": [{"name": "respond", "template": SHORT, "maxTokens": 8}]},
    "fspo": {"shots": 1},
}
CHECKS = [
    {"name": "taste", "type": "ExactMatch", "exactMatch": {"temperatures": [0]}},
    {"name": "win", "type": "SelfWinRate"},
]


def method(**spec: Any) -> Method:
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    return method_of(method_values(parse(SelfAlignmentRun, document | {"spec": SPEC | spec}, ""), "CPU", {}, Path()))


def row(user: str, question: str, number: int = 0, **said: Any) -> dict[str, Any]:
    better, worse = f"{question}{user}+{number}", f"{question}{user}-{number}"
    return {"history": None, "prompt": question, "chosen": better, "rejected": worse, "answers": 1, "user": user} | said


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([*rows])


def options(**given: Any) -> dict[str, Any]:
    values = {"seed": 0, "count": None, "apart": 0, "shots": 1, "shuffles": 4, "identical": "Drop", "describe": False}
    return values | {"turn": SHORT, "targets": False, "split": "users", "most": 500} | given


# --- windows --------------------------------------------------------------------------------------------------------------

ROWS = table(
    row("ann", "p"),
    row("ann", "q"),
    row("bob", "p"),
    row("bob", "q", rejected="qbob+0"),  # equal answers teach nothing
    row("bob", "r"),
    row("cid", "p"),  # one question: no window
    row("ann", "s", history="[]"),
)


def test_windows_of_two_questions_are_one_of_them_shown_and_the_other_asked() -> None:
    made = windows((ROWS,), options())
    by_hand = [
        (user, f"{shot}:{shot}{user}+0>{shot}{user}-0 {asked}", f"{asked}{user}+0", f"{asked}{user}-0")
        for user, (one, other) in (("ann", ("p", "q")), ("bob", ("p", "r")))
        for shot, asked in ((one, other), (other, one))
    ]
    found = [
        (each["user_id"], turn(SHORT, each["shots"], each["prompt"]), each["chosen"], each["rejected"])
        for each in made.to_pylist()
    ]
    assert {*found} == {*by_hand}
    assert Counter(user for user, *_ in found) == {"ann": 4, "bob": 4}  # a window a shuffle
    assert counts_of(made) == {"pairs": 8, "identical": 1, "goesOn": 1, "fewQuestions": 1}


def test_the_supervised_training_reads_the_same_windows_with_the_preferred_answers_alone() -> None:
    pairs, targets = (windows((ROWS,), options(targets=only)).to_pylist() for only in (False, True))
    assert [each["target"] for each in targets] == [each["chosen"] for each in pairs]
    assert [each["prompt"] for each in targets] == [each["prompt"] for each in pairs]
    assert all("rejected" not in each for each in targets)


def test_the_description_of_the_person_stands_before_both_answers() -> None:
    rows = table(*(row("ann", question, description="terse") for question in "pq"))
    (one, *_) = windows((rows,), options(describe=True)).to_pylist()
    assert one["chosen"] == described("terse", f"{one['prompt']}ann+0")
    assert one["rejected"] == described("terse", f"{one['prompt']}ann-0")
    assert answer_of(one["chosen"]) == f"{one['prompt']}ann+0"
    assert answer_of("no sections here") == "no sections here"


USERS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=14), min_size=2, max_size=8)


@given(asked=USERS, shots=st.integers(1, 4), shuffles=st.integers(1, 6), seed=st.integers(0, 2**63 - 1))
def test_a_window_is_of_one_user_about_different_questions_and_shows_nothing_held_out(
    asked: list[list[int]], shots: int, shuffles: int, seed: int
) -> None:
    rows = table(*(row(f"u{u}", f"q{q}", n) for u, questions in enumerate(asked) for n, q in enumerate(questions)))
    given_options = options(apart=10, shots=shots, shuffles=shuffles, seed=seed)
    found = people(rows, given_options)
    left = {user: len(own) for user, own in found.trained()}
    if max(left.values(), default=0) <= shots:
        with pytest.raises(ConfigError, match=f"pairs about {shots + 1} questions"):
            windows((rows,), given_options)
        return
    made = windows((rows,), given_options).to_pylist()
    blocks = {user: shuffles * (number // (shots + 1)) for user, number in left.items()}
    assert Counter(each["user_id"] for each in made) == Counter(blocks)
    for each in made:
        questions = [shot["prompt"] for shot in each["shots"]]
        assert len({*questions, each["prompt"]}) == shots + 1
        assert each["user_id"] not in found.held_users
        assert not {*questions, each["prompt"]} & found.held_questions
        said = [*each["shots"], each]
        assert all(shot["chosen"].startswith(f"{shot['prompt']}{each['user_id']}+") for shot in said)  # their own rows


@given(questions=st.integers(2, 30), shots=st.integers(1, 8))
def test_a_question_is_the_target_about_twice_with_the_papers_number_of_shuffles(questions: int, shots: int) -> None:
    """Each shuffle makes 1/(shots + 1) of them targets, and there are 2 · (shots + 1)."""
    found = method(fspo={"shots": shots})
    assert found.options["shuffles"] == 2 * (shots + 1)
    rows = table(*(row("ann", f"q{n}") for n in range(questions)), row("bob", "q0"))
    if questions > shots:
        made = windows((rows,), options(shots=shots, shuffles=2 * (shots + 1)))
        assert made.num_rows == 2 * (shots + 1) * (questions // (shots + 1)) <= 2 * questions


def test_users_are_taken_whole_up_to_the_rows_that_are_asked_for() -> None:
    rows = table(*(row(f"u{u}", f"q{q}") for q in range(4) for u in range(5)))
    taken = people(rows, options(count=9)).of_user
    assert [len(own) for own in taken.values()] == [4, 4, 1]


# --- what is held out -----------------------------------------------------------------------------------------------------

MANY = table(*(row(f"u{u:02}", f"q{(u + 3 * n) % 17}") for u in range(20) for n in range(8)))


@pytest.mark.parametrize("split", ["users", "questions"])
def test_each_split_asks_what_it_says_with_shots_that_do_not_tell_the_answer(split: str) -> None:
    given_options = options(apart=10, shots=3, split=split)
    found = people(MANY, given_options)
    assert (len(found.held_users), len(found.held_questions)) == (2, 2)
    asked = held_out_windows((MANY,), given_options).to_pylist()
    assert len({each["prompt"] for each in asked}) == len(asked) > 10
    for each in asked:
        new_user, shown = each["user_id"] in found.held_users, [shot["prompt"] for shot in each["shots"]]
        assert new_user == (split == "users")
        assert len({*shown, each["question"]}) == 4
        if split == "questions":
            assert each["question"] in found.held_questions
            assert not {*shown} & found.held_questions
        assert each["reference"] == f"{each['question']}{each['user_id']}+0"
        strangers = {shot["chosen"].removeprefix(shot["prompt"]) for shot in each["other_shots"]}
        assert len(strangers) == 1 and f"{each['user_id']}+0" not in strangers
        assert each["question"] not in [shot["prompt"] for shot in each["other_shots"]]


def test_users_take_turns_up_to_the_most_that_are_asked() -> None:
    asked = held_out_windows((MANY,), options(apart=10, split="users", most=5)).to_pylist()
    assert sorted(Counter(each["user_id"] for each in asked).values()) == [2, 3]


@pytest.mark.parametrize(
    ("rows", "split", "says"),
    [
        (table(row("ann", "p"), row("ann", "q")), "users", "not one of the 0 held-out users"),
        (table(row("ann", "p"), row("bob", "p")), "questions", "not one of the 0 held-out questions"),
        (table(*(row(f"u{n}", "p") for n in range(20))), "users", "held-out users has pairs about 2 questions"),
    ],
)
def test_too_little_to_hold_out_is_said_with_what_to_write(rows: pa.Table, split: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"{says}.*evaluation: \{{when: Never\}}"):
        held_out_windows((rows,), options(apart=10, split=split))


# --- turns that must fit ----------------------------------------------------------------------------------------------------


def test_the_first_shots_go_and_the_question_never() -> None:
    shots = [{"prompt": each, "chosen": "y", "rejected": "n"} for each in "abc"]
    assert [*turns(SHORT, shots, "why")] == ["a:y>n b:y>n c:y>n why", "b:y>n c:y>n why", "c:y>n why", "why"]


@pytest.mark.parametrize(("bounds", "shown"), [((60, 60), 3), ((16, 60), 2), ((60, 16), 1), ((4, 60), 0), ((2, 60), 0)])
@pytest.mark.parametrize("answers", [TARGET, PAIR])
def test_a_training_shows_as_many_shots_as_its_bounds_have_room_for(
    answers: tuple[str, ...], bounds: tuple[int, int], shown: int
) -> None:
    rows = table(*(row("a", each, chosen="yy", rejected="n") for each in "pqrs"))
    made = windows((rows,), options(shots=3, shuffles=1, targets=answers == TARGET))
    settings = TrainSettings(learning_rate=1, max_prompt_tokens=bounds[0], max_length_tokens=bounds[1])
    (found,) = (fitted := written(made, Letters(), answers, fit=Fit(SHORT, settings))).to_pylist()  # type: ignore[arg-type]
    (window,) = made.to_pylist()
    said = turn(SHORT, window["shots"][3 - shown :], window["prompt"])
    assert found["shots"] == shown
    assert found["prompt_ids"] == [*map(ord, f"{said}.")]
    assert found[f"{answers[0]}_ids"] == [*map(ord, "yy"), END]
    assert counts_of(fitted)["shortened"] == (shown < 3)


# --- the plan ---------------------------------------------------------------------------------------------------------------


def test_both_trainings_read_the_windows_and_the_second_starts_from_and_refers_to_the_first() -> None:
    fit, prefer, evaluated = FSPO.plan(method(evaluation={"checks": CHECKS}))
    assert isinstance(fit, Train) and isinstance(prefer, Train) and isinstance(evaluated, Evaluate)
    fitted = ModelRef(lineage="sft", iteration=1)
    assert (fit.name, fit.objective, fit.stage, fit.start, fit.result) == (
        "i1-train-sft",
        "sft",
        "sft",
        ModelRef(),
        fitted,
    )
    assert (prefer.name, prefer.loss.type, prefer.start, prefer.reference) == ("i1-train", "ipo", fitted, fitted)
    assert prefer.result == ModelRef(iteration=1)
    assert fit.data.options | {"targets": False} == prefer.data.options
    checks = [(check.name, check.before.name, check.after.name) for check in evaluated.checks]
    assert checks == [
        ("taste", "initial-answers", "answers"),
        ("taste-new-questions", "initial-answers-new-questions", "answers-new-questions"),
        ("win", "initial-answers", "answers"),
        ("win-new-questions", "initial-answers-new-questions", "answers-new-questions"),
    ]
    jobs = [[job.out for job in load.jobs] for load in evaluated.loads]
    assert jobs == [
        ["initial-answers", "initial-answers-new-questions"],
        ["answers", "answers-new-questions", "answers-no-shots", "answers-other-shots"],
        ["verdicts", "verdicts-new-questions"],
    ]


def test_nothing_is_held_out_where_nothing_is_evaluated() -> None:
    steps = FSPO.plan(method(evaluation={"when": "Never"}))
    assert [step.name for step in steps] == ["i1-train-sft", "i1-train"]
    assert all(isinstance(step, Train) and step.data.options["apart"] == 0 for step in steps)


def test_the_papers_values_stand_where_they_are_left_out() -> None:
    bare = {name: SPEC[name] for name in ("recipe", "model", "data")}
    document = {"apiVersion": "selfalign.dev/v1alpha1", "kind": "SelfAlignmentRun", "metadata": {"name": "r"}}
    found = method_of(method_values(parse(SelfAlignmentRun, document | {"spec": bare}, ""), "GPU", {}, Path()))
    settings, stage = found.training.settings, found.training.stage("sft")
    assert (found.training.loss.type, found.training.loss.beta) == ("ipo", 0.01)
    assert (settings.learning_rate, stage.learning_rate) == (1e-6, 1e-7)
    assert {each.learning_rate_schedule for each in (settings, stage)} == {"constant"}
    assert {(each.optimizer.type, each.epochs, each.max_length_tokens) for each in (settings, stage)} == {
        ("rmsprop", 1, 8192)
    }
    assert (found.options["shots"], found.options["shuffles"], found.options["describe_user"]) == (8, 18, "Never")
    assert found.roles["respond"].template == TURN


def test_what_a_run_comes_to_is_known_before_it_starts() -> None:
    steps = FSPO.plan(method())
    sources = {"preferences": DataSource(digest="d")}
    plan = Plan(
        version="0",
        name="r",
        recipe="fspo",
        seed=0,
        digest="d",
        models={"policy": ModelSource(url="file:///m")},
        sources=sources,
        steps=steps,
    )
    fit, _, evaluated = steps
    assert isinstance(fit, Train) and isinstance(evaluated, Evaluate)
    rows = {"preferences": MANY.num_rows}
    made = windows((MANY,), fit.data.options | {"apart": 0})
    assert most_pairs(plan, fit, rows) == made.num_rows == 2 * MANY.num_rows
    asked = evaluated.loads[0].jobs[0].rows
    assert held_out_windows((MANY,), asked.options).num_rows <= most_rows(plan, asked, rows) == MANY.num_rows


# --- the evaluation, played -------------------------------------------------------------------------------------------------


def play(job: FlowJob, rows: pa.Table, context: int = 256) -> list[dict[str, Any]]:
    """A model that gives what is shown first after a colon, else `?`."""

    def answer(request: EngineRequest) -> Answer:
        text = "".join(map(chr, request.prompt_ids))
        said = text.split(":")[1].split(">")[0][-2:] if ":" in text else "?"
        return (Sample((*map(ord, said), END), "stop"),)  # type: ignore[return-value]

    records = run_job(FSPO, job, FakeEngine(answer), Renderer(Letters(), job.roles, context), rows)  # type: ignore[arg-type]
    return [each for record in records for each in record.rows]


def test_held_out_users_are_answered_with_their_shots_with_none_and_with_anothers() -> None:
    evaluated = FSPO.plan(method(evaluation={"checks": CHECKS[:1]}))[-1]
    assert isinstance(evaluated, Evaluate)
    jobs = {job.out: job for load in evaluated.loads for job in load.jobs}
    rows = table(*(row(f"u{u:02}", f"q{n}", chosen=f"{u % 2}!") for u in range(20) for n in range(4)))
    asked = held_out_windows((rows,), jobs["answers"].rows.options)
    expected = {
        "answers": [shots[0]["chosen"] for shots in asked["shots"].to_pylist()],
        "answers-no-shots": ["?"] * asked.num_rows,
        "answers-other-shots": [shots[0]["chosen"] for shots in asked["other_shots"].to_pylist()],
    }
    tables = {}
    for out, answers in expected.items():
        made = play(jobs[out], asked)
        assert [(each["role"], each["answer"]) for each in made] == [("greedy", answer) for answer in answers]
        assert [each["reference"] for each in made] == asked["reference"].to_pylist()
        tables[out] = pa.Table.from_pylist([{**each, "_status": "rows"} for each in made])
    assert expected["answers"] == asked["reference"].to_pylist()  # a user's taste is that of their shots
    found = {remark.name: remark.value for remark in FSPO.remarks(tables)}
    same = [one == other for one, other in zip(expected["answers-other-shots"], expected["answers"], strict=True)]
    assert found == {"tasteWithoutShots": 0.0, "tasteWithOthersShots": sum(same) / len(same)}


def test_a_question_with_more_shots_than_the_context_holds_is_asked_with_fewer() -> None:
    evaluated = FSPO.plan(method(evaluation={"checks": CHECKS[:1]}, fspo={"shots": 3}))[-1]
    assert isinstance(evaluated, Evaluate)
    job = evaluated.loads[1].jobs[0]
    rows = table(*(row(f"u{u}", f"q{n}", chosen=f"{n}!", rejected="x") for u in range(10) for n in range(4)))
    asked = held_out_windows((rows,), job.rows.options)
    shown = [[shot["chosen"] for shot in shots] for shots in asked["shots"].to_pylist()]
    for room, place in ((256, 0), (30, 1), (20, 2), (12, None)):
        firsts = ["?" if place is None else shots[place] for shots in shown]
        assert [each["answer"] for each in play(job, asked, room)] == firsts


@pytest.mark.parametrize("described", ["Never", "BeforeAnswer"])
def test_the_card_tells_how_to_show_the_model_a_persons_pairs(described: str) -> None:
    steps = FSPO.plan(method(fspo={"shots": 1, "describeUser": described}))
    models, sources = {"policy": ModelSource(url="file:///m")}, {"preferences": DataSource(digest="d")}
    named = {"version": "0", "name": "r", "recipe": "fspo", "seed": 0, "digest": "d"}
    plan = Plan.model_validate({**named, "models": models, "sources": sources, "steps": steps})
    (fit, prefer, _) = steps
    for step in (fit, prefer):
        assert isinstance(step, Train) and step.data.inputs == (SourceRef(name="preferences"),)
        text = card(plan, step, [], 3, adapter=False)
        assert f"```jinja\n{SHORT}\n```" in text
        assert "`shots`" in text and "(1 in training)" in text
        assert ("It first says what the person is like" in text) == (described == "BeforeAnswer")


def test_the_papers_example_is_the_recipes_own_values() -> None:
    run = load_run(EXAMPLES / "fspo-paper.yaml")
    written_out = method_of(method_values(run, "GPU", {}, EXAMPLES))
    left_out = {"training": None, "fspo": None}
    filled = method_of(
        method_values(run.model_copy(update={"spec": run.spec.model_copy(update=left_out)}), "GPU", {}, EXAMPLES)
    )
    assert written_out.training == filled.training
    assert written_out.options == filled.options
