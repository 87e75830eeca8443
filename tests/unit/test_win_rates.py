"""Win rates by another judge, against the iteration before, and against answers of a file."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import Chances, MadeRun, make_run

from selfalign_api.errors import ConfigError
from selfalign_api.plan import ArtifactRef, Evaluate, SourceRef, job_of
from selfalign_api.sources import DataSource
from selfalign_jobs.accept.context import longest_texts
from selfalign_jobs.accept.given_answers import answers_notes
from selfalign_jobs.accept.resolve import method_of
from selfalign_jobs.compare.comparison import read_comparison
from selfalign_jobs.compare.page import render as render_comparison
from selfalign_jobs.places.sources import open_source, read_source
from selfalign_jobs.places.store import read_manifest, step_folder, write_manifest
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.tables import joined_answers
from selfalign_jobs.report.finish import render_report, summary

FOUR = ("win", "step", "rival", "outside")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """Two iterations with a win rate of each kind."""
    chances = Chances(personas=60, held_out=50, iterations=2, checks=FOUR)
    return make_run(tmp_path_factory.mktemp("run"), chances)


def evaluation(run: MadeRun, k: int) -> Evaluate:
    step = run.plan.step(f"i{k}-evaluate")
    assert isinstance(step, Evaluate)
    return step


def test_each_check_has_verdicts_on_the_answers_that_it_is_about(run: MadeRun) -> None:
    initial = ArtifactRef(step="i1-generate", name="initial-answers")
    before = {check.name: check.before for check in evaluation(run, 2).checks}
    assert before["win"] == before["outside"] == initial
    assert before["step"] == ArtifactRef(step="i1-evaluate", name="answers")
    assert before["rival"] == SourceRef(name="answers-rival")
    for check in evaluation(run, 2).checks:
        assert check.verdicts is not None
        assert job_of(evaluation(run, 2), check.verdicts.name).rows.inputs == (check.before, check.after)


def test_the_iteration_before_the_first_is_the_model_as_given_and_nothing_is_judged_twice(run: MadeRun) -> None:
    verdicts = {check.name: check.verdicts and check.verdicts.name for check in evaluation(run, 1).checks}
    assert verdicts["step"] == verdicts["win"] == "verdicts"
    assert len(evaluation(run, 1).outputs) == len({*evaluation(run, 1).outputs})


def test_each_judge_is_loaded_once_whatever_it_judges(run: MadeRun) -> None:
    judging = {
        load.model.lineage: [j.out for j in load.jobs] for load in evaluation(run, 2).loads if load.jobs[0].judge
    }
    assert judging == {"policy": ["verdicts", "verdicts-step", "verdicts-rival"], "strong": ["verdicts-outside"]}


def test_the_first_iteration_s_rate_against_the_one_before_is_the_rate_against_the_initial_model(run: MadeRun) -> None:
    made = read_manifest(step_folder(run.folder, 1, "i1-evaluate"))
    assert made is not None
    assert made.result["checks"]["step"]["n"] == made.result["checks"]["win"]["n"] == 50


def test_prompts_that_a_file_does_not_answer_do_not_count_and_are_told(run: MadeRun) -> None:
    for k in (1, 2):
        made = read_manifest(step_folder(run.folder, k, f"i{k}-evaluate"))
        assert made is not None and made.result["checks"]["rival"]["n"] == 45
        words = "The answers that check rival compares with lack 5 of 50 held-out prompts: these do not count."
        assert words in made.result["notes"]


def test_report_and_summary_say_who_judged_and_against_whom(run: MadeRun) -> None:
    rates = summary(run.folder, run.plan)["winRate"]
    told = {name: (rate.get("judge"), rate.get("against")) for name, rate in rates.items()}
    assert told == {
        "win": (None, None),
        "step": (None, "previous"),
        "rival": (None, "answers"),
        "outside": ("strong", None),
    }
    page = render_report(run.folder, run.plan)
    assert "win rate by strong, outside" in page and "self-win rate against given answers, rival" in page
    assert "judged by the initial model (win, step, rival) and strong (outside)" in page
    opponents = "against the initial model (win, outside) and against the iteration before (step) and against given answers (rival)"
    assert opponents in page


def test_the_length_controlled_rate_stands_beside_the_raw_one_and_only_where_it_was_computed(
    run: MadeRun, tmp_path: Path
) -> None:
    rates = summary(run.folder, run.plan)["winRate"]
    assert all(0 <= rate["lengthControlled"]["value"] <= 1 for rate in rates.values())
    page = render_report(run.folder, run.plan)
    assert "win, length-controlled" in page and "; length-controlled 0." in page
    older = make_run(tmp_path, Chances(personas=40, held_out=30, checks=("win",)))
    place = step_folder(older.folder, 1, "i1-evaluate")
    manifest = read_manifest(place)
    assert manifest is not None
    kept = {name: figure for name, figure in manifest.result["checks"].items() if name == "win"}
    write_manifest(place, manifest.model_copy(update={"result": manifest.result | {"checks": kept}}))
    assert "lengthControlled" not in summary(older.folder, older.plan)["winRate"]["win"]
    assert "length-controlled" not in render_report(older.folder, older.plan).lower()


def test_compared_runs_show_it_too_and_no_rate_against_an_iteration_of_their_own(run: MadeRun) -> None:
    comparison = read_comparison([run.folder, run.folder])
    assert [figure.name for figure in comparison.figures] == ["win", "rival", "outside"]
    assert all(each.estimate.value == 0 for each in comparison.differences)
    assert "length-controlled" in render_comparison(comparison)


def test_a_run_file_of_the_report_names_the_file_of_answers(run: MadeRun) -> None:
    assert "rival.parquet" in render_report(run.folder, run.plan)


# --- the file -------------------------------------------------------------------------------------------------------------

NAME = "answers-rival"
FIELD = r"spec\.evaluation\.checks\[rival\]\.selfWinRate\.answers"


def source(path: Path, rows: list[dict[str, Any]], **columns: str) -> DataSource:
    file = path / "rival.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSource(url=file.as_uri(), columns=columns)


@pytest.mark.parametrize(
    ("rows", "columns", "refused"),
    [
        ([{"prompt": "a"}], {}, rf"{FIELD}\.columns\.response: rival.jsonl has no column response; it has prompt"),
        ([{"response": "a"}], {}, rf"{FIELD}\.columns\.prompt: rival.jsonl has no column prompt"),
        ([{"prompt": "a", "output": "b"}], {"response": "out"}, rf"{FIELD}\.columns\.response: .* no column out"),
        ([{"prompt": "", "response": "b"}], {}, rf"{FIELD}\.url: .*: 1 of 1 rows have an empty prompt"),
        ([{"prompt": "a", "response": ["b"]}], {}, rf"{FIELD}\.url: .*: rival.jsonl, line 1: response is a list"),
        ([{"prompt": "a", "response": "b"}], {"reference": "r"}, rf"{FIELD}\.columns\.reference: .*is not read here"),
        ([], {}, rf"{FIELD}\.url: "),
    ],
)
def test_a_file_that_holds_no_answers_is_refused_at_its_field(
    tmp_path: Path, rows: list[dict[str, Any]], columns: dict[str, str], refused: str
) -> None:
    with pytest.raises(ConfigError, match=refused):
        read_source(NAME, source(tmp_path, rows, **columns), {})


def held_out(path: Path, prompts: list[str]) -> DataSource:
    file = path / "held.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return DataSource(url=file.as_uri())


def test_answers_to_other_prompts_are_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    given = source(tmp_path, [{"prompt": "another", "response": "x"}, {"prompt": "b", "response": None}])
    sources = {"evaluation": held_out(tmp_path, ["a", "b"]), NAME: given}
    opened = {name: open_source(name, each, {}) for name, each in sources.items()}
    with pytest.raises(ConfigError, match=rf"{FIELD}\.url: has an answer to none of the 2 held-out prompts"):
        list(answers_notes(opened))


def test_some_unanswered_prompts_are_told_before_anything_is_paid_for(tmp_path: Path) -> None:
    given = source(tmp_path, [{"prompt": "a", "response": ""}])
    sources = {"evaluation": held_out(tmp_path, ["a", "b", "c"]), NAME: given}
    (note,) = answers_notes({name: open_source(name, each, {}) for name, each in sources.items()})
    assert note.startswith("The answers that check rival compares with lack 2 of 3 held-out prompts")


texts = st.sampled_from(["a", "b", "c", "d", "a "])


@given(
    st.lists(st.tuples(texts, st.none() | st.text(max_size=3)), max_size=8),
    st.lists(texts, max_size=5, unique=True),
)
def test_a_prompt_is_joined_with_the_first_answer_that_the_file_has(
    rows: list[tuple[str, str | None]], prompts: list[str]
) -> None:
    strings = pa.string()
    given = pa.table(
        {"prompt": pa.array([p for p, _ in rows], strings), "response": pa.array([r for _, r in rows], strings)}
    )
    after = pa.table(
        {
            "prompt": pa.array(prompts, strings),
            "role": pa.array(["respond"] * len(prompts), strings),
            "answer": pa.array([f"new {p}" for p in prompts], strings),
        }
    )
    first = {prompt: answer for prompt, answer in reversed(rows) if answer is not None}
    expected = [{"prompt": p, "before": first[p], "after": f"new {p}"} for p in sorted(prompts) if p in first]
    assert joined_answers((given, after), {"role": "respond"}).to_pylist() == expected


# --- the judge ------------------------------------------------------------------------------------------------------------


def values(judge: dict[str, Any], kind: str) -> dict[str, Any]:
    """A run of pairs with another judge for its win rate."""
    found = recipe("pairs").defaults_for({})
    floor = {"precision": "float32"}
    return found | {
        "recipe": "pairs",
        "seed": 0,
        "model": {"url": "file:///m"},
        "auxiliaryModels": [{"name": "strong", "kind": kind, "url": "file:///s"}],
        "generation": found["generation"] | floor,
        "training": found["training"] | floor | {"overlong": "Drop", "adapter": "none"},
        "judge": found["judge"] | {"criteria": ["truth"], "tieMargin": 0.2},
        "evaluation": {
            "when": "Last",
            "checks": [{"name": "w", "type": "SelfWinRate", "judge": {"modelName": "strong"} | judge}],
        },
    }


@pytest.mark.parametrize(
    ("judge", "kind", "method", "scorer", "task", "margin"),
    [
        ({}, "Causal", "logprobs", None, "text", 0.0),
        ({"method": "generate"}, "Causal", "generate", None, "text", 0.0),
        ({"tieMargin": 0.1}, "Causal", "logprobs", None, "text", 0.1),
        ({}, "RewardModel", "score", "RewardModel", "score", 0.0),
        ({}, "PairRanker", "score", "PairRanker", "score", 0.0),
        ({"method": "score"}, "Classifier", "score", "Classifier", "score", 0.0),
    ],
)
def test_a_check_s_own_judge_goes_by_what_its_model_can_do_and_by_the_run_s_criteria(
    judge: dict[str, Any], kind: str, method: str, scorer: str | None, task: str, margin: float
) -> None:
    step = recipe("pairs").plan(method_of(values(judge, kind)))[-1]
    assert isinstance(step, Evaluate)
    load = step.loads[-1]
    assert (load.model.lineage, load.task) == ("strong", task)
    used = load.jobs[0].judge
    assert used is not None and used.criteria == ("truth",)
    assert (used.method, used.scorer, used.tie_margin) == (method, scorer, margin)


@pytest.mark.parametrize(("file", "longest"), [(7000, 7000), (3, 2048)])
def test_a_judge_has_room_for_the_answers_of_a_file(file: int, longest: int) -> None:
    method = method_of(values({}, "Causal"))
    found = longest_texts(method, {"preferences": 100, NAME: file})
    assert (found["first"], found["second"], found["prompt"]) == (longest, longest, 100)
