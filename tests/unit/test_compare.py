"""Runs beside one another: what is said of them, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_shapes import known, played
from report_run import Chances, MadeRun, make_run
from rich.console import Console

from selfalign_api.digest import differing_fields
from selfalign_api.errors import ConfigError
from selfalign_api.plan import Generate
from selfalign_jobs.accept.owner import OWNER, claim
from selfalign_jobs.compare import compare
from selfalign_jobs.compare.comparison import Comparison, read_comparison
from selfalign_jobs.compare.paired import counts
from selfalign_jobs.compare.spec import UNSET, differing
from selfalign_jobs.evaluate.statistics import exact_match
from selfalign_jobs.local.cli import main
from selfalign_jobs.places.store import Folder, read_manifest, read_parts, step_folder, write_manifest

SMALL = Chances(personas=100, held_out=100)
BETTER = replace(SMALL, right=(0.46, 0.95), greedy=(0.72, 0.97))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("first"), replace(SMALL, hostile=True))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("second"), replace(BETTER, personas=120), seed=1)


@pytest.fixture(scope="module")
def both(first: MadeRun, second: MadeRun) -> Comparison:
    return read_comparison([first.folder, second.folder])


def written(tmp_path: Path, *runs: MadeRun) -> tuple[dict[str, Any], str, str]:
    """The figures, the page and what the terminal shows."""
    terminal = StringIO()
    compare([run.folder for run in runs], Folder.open(tmp_path.as_uri()), Console(file=terminal, width=100))
    figures = json.loads((tmp_path / "compare.json").read_text())
    return figures, (tmp_path / "compare.html").read_text(), terminal.getvalue()


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_run_differs_from_itself_by_exactly_nothing(first: MadeRun, tmp_path: Path) -> None:
    figures, page, _ = written(tmp_path, first, first, first)
    assert {each["figure"] for each in figures["paired"]} == {"accuracy.greedy", "accuracy.sampled", "win"}
    assert {(each["value"], each["low"], each["high"]) for each in figures["paired"]} == {(0.0, 0.0, 0.0)}
    assert figures["spec"] == {}
    assert "Nothing: the same model, data and method." in page


def test_differences_are_those_of_the_answers_prompt_by_prompt(
    both: Comparison, first: MadeRun, second: MadeRun
) -> None:
    answers = []
    for run in (first, second):
        folder = step_folder(run.folder, 1, "i1-evaluate")
        manifest = read_manifest(folder)
        assert manifest is not None
        rows = read_parts(folder, manifest.tables["answers"]).to_pylist()
        answers.append(
            {row["prompt"]: exact_match(row["answer"], row["reference"]) for row in rows if row["role"] == "greedy"}
        )
    (found,) = (each for each in both.differences if each.figure.name == "accuracy.greedy")
    pairs = [answers[1][prompt] - answers[0][prompt] for prompt in answers[0].keys() & answers[1].keys()]
    assert found.estimate.value == pytest.approx(np.mean(pairs))
    assert found.estimate.n == len(pairs) == 100
    assert found.estimate.low < found.estimate.value < found.estimate.high


def test_win_rates_differ_by_points_of_the_same_prompts(both: Comparison) -> None:
    (found,) = (each for each in both.differences if each.figure.name == "win")
    old, new = (counts(run, found.figure) for run in both.runs)
    assert old.keys() == new.keys()
    assert {*old.values()} <= {0.0, 0.5, 1.0}
    assert found.estimate.value == pytest.approx(np.mean([*new.values()]) - np.mean([*old.values()]))


def test_each_run_is_compared_with_each_before_it(first: MadeRun, second: MadeRun) -> None:
    found = read_comparison([first.folder, second.folder, first.folder])
    pairs = [(each.run.letter, each.against.letter) for each in found.differences if each.figure.name == "win"]
    assert pairs == [("B", "A"), ("C", "A"), ("C", "B")]


def test_the_spec_has_what_differs_and_nothing_else(both: Comparison, first: MadeRun, second: MadeRun) -> None:
    fields = {row.field: row.values for row in both.spec}
    assert fields == {"seed": (0, 1), "data.personas.count": (100, 120)}


def test_costs_are_those_of_the_manifests(both: Comparison, first: MadeRun) -> None:
    costs = both.costs[0]
    assert costs.read["personas"] == {"i1-generate.pairs": 100}
    assert costs.read["evaluation"] == {"i1-generate.initial-answers": 100, "i1-evaluate.answers": 100}
    manifest = read_manifest(step_folder(first.folder, 1, "i1-generate"))
    assert manifest is not None
    assert costs.tokens["written in generation"] == sum(
        n for name, n in manifest.tokens.items() if name.endswith(".out")
    )
    assert costs.tokens["trained"] == 512_000
    assert costs.engine_starts == 3  # generate, answer, judge
    assert sum(costs.seconds.values()) == pytest.approx(sum(facts.seconds for facts in both.runs[0].evidence.steps))


def test_steps_taken_over_from_another_run_are_told(first: MadeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", SMALL)
    folder = step_folder(run.folder, 1, "i1-generate")
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, manifest.model_copy(update={"reused": True}))
    figures, page, _ = written(tmp_path, first, run)
    assert figures["runs"]["B"]["reused"] == ["i1-generate"]
    assert "of it taken over from other runs" in page


def test_the_page_shows_every_section_and_repeats_itself(first: MadeRun, second: MadeRun, tmp_path: Path) -> None:
    figures, page, terminal = written(tmp_path / "once", first, second)
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert sections == ["result", "paired", "spec", "costs", "training", "funnels", "runs"]
    assert page.count('class="curve s0"') > page.count('class="curve s1"') - 2 > 0
    assert "run file" not in page
    assert not re.search(r">(None|nan|[^<]*\{\}[^<]*)<", page)
    assert "A sao-tiny" in terminal
    assert "B sao-tiny" in terminal
    assert f"{tmp_path}/once/compare.html" in terminal
    assert (figures, page) == written(tmp_path / "again", first, second)[:2]


def test_each_of_more_runs_than_there_are_kinds_of_lines_has_its_curve(first: MadeRun, tmp_path: Path) -> None:
    _, page, _ = written(tmp_path, *[first] * 10)
    (loss,) = re.findall(r'<svg[^>]*aria-label="Loss">.*?</svg>', page)
    assert loss.count('class="curve s') == 10
    assert loss.count('class="curve s1"') == 2
    assert "<h1>A sao-tiny, B sao-tiny, C sao-tiny and 7 others</h1>" in page


def test_no_text_of_a_model_is_markup_and_nothing_is_loaded(first: MadeRun, second: MadeRun, tmp_path: Path) -> None:
    _, page, _ = written(tmp_path, first, second)
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"@import|url\(", page)


def test_a_run_in_its_second_iteration_is_compared_by_its_first(first: MadeRun, tmp_path: Path) -> None:
    going = make_run(tmp_path / "run", replace(SMALL, iterations=2, until="i2-train"))
    figures, page, _ = written(tmp_path, first, going)
    assert figures["runs"]["B"]["iteration"] == 1
    assert not figures["runs"]["B"]["finished"]
    assert "B sao-tiny is not finished" in page


def test_every_iteration_that_was_evaluated_is_drawn(first: MadeRun, tmp_path: Path) -> None:
    twice = make_run(tmp_path / "run", replace(SMALL, iterations=2))
    figures, page, _ = written(tmp_path, first, twice)
    assert figures["runs"]["B"]["iteration"] == 2
    assert "B sao-tiny, iteration 1" in page
    assert "B sao-tiny, iteration 2" in page


def test_runs_of_other_recipes_compare_by_what_they_share(first: MadeRun, tmp_path: Path) -> None:
    with known("offline"):
        folder, plan = played(tmp_path, "offline")
        sources = {name: {"url": source.digest} for name, source in plan.sources.items()}
        method = {"recipe": "offline", "model": {"url": "x"}, "data": sources, "evaluation": {"prompts": {"url": "y"}}}
        folder.write("plan.json", plan.model_dump_json().encode())
        claim(folder, plan, method)
        found = read_comparison([first.folder, folder])
        compare([first.folder, folder], Folder.open(tmp_path.as_uri()), Console(file=StringIO()))
    assert [figure.name for figure in found.figures] == ["accuracy.greedy", "accuracy.sampled"]
    assert {each.estimate.n for each in found.differences} == {90}  # of the other, one in ten was set aside
    assert ("recipe", ("sao", "offline")) in [(row.field, row.values) for row in found.spec]
    assert found.costs[1].read["preferences"] == {"i1-train": 90}


Documents = st.recursive(
    st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, "a", ""]),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1) | st.lists(inner, min_size=1, max_size=2),
    max_leaves=8,
)
Methods = st.dictionaries(st.sampled_from("abc"), Documents, min_size=1)


@given(Methods, Methods)
def test_a_field_is_told_where_and_only_where_methods_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    rows = differing([one, other])
    assert bool(rows) == bool(differing_fields(one, other))
    told = differing_fields(one, other)
    assert all(any(row.field.startswith(field) for field in told) for row in rows)
    assert all(any(row.field.startswith(field) for row in rows) for field in told)


@given(Methods)
def test_a_method_does_not_differ_from_itself(method: dict[str, Any]) -> None:
    assert differing([method, method, method]) == ()


def test_a_field_that_a_run_does_not_have_is_unset() -> None:
    (row,) = differing([{"a": 1}, {"a": 1.0, "b": True}])
    assert (row.field, row.values) == ("b", (UNSET, True))


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(run: MadeRun, step: str, **update: object) -> None:
    folder = step_folder(run.folder, 1, step)
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, manifest.model_copy(update=update))


def no_run(run: MadeRun) -> None:
    run.folder.delete("plan.json")


def cut_short(run: MadeRun) -> None:
    run.folder.write("plan.json", run.folder.read("plan.json")[:-9])


def not_evaluated(run: MadeRun) -> None:
    step_folder(run.folder, 1, "i1-evaluate").delete("manifest.json")


def never_evaluated(run: MadeRun) -> None:
    steps = tuple(step for step in run.plan.steps if step.name != "i1-evaluate")
    run.folder.write("plan.json", run.plan.model_copy(update={"steps": steps}).model_dump_json().encode())


def of_nobody(run: MadeRun) -> None:
    run.folder.delete(OWNER)


def without_seconds(run: MadeRun) -> None:
    changed(run, "i1-train", result={"loss": 1.0})


def without_checks(run: MadeRun) -> None:
    changed(run, "i1-evaluate", result={"seconds": {}})


def of_a_recipe_that_is_gone(run: MadeRun) -> None:
    run.folder.write("plan.json", run.plan.model_copy(update={"recipe": "older"}).model_dump_json().encode())


def of_a_flow_that_is_gone(run: MadeRun) -> None:
    generate = run.plan.steps[0]
    assert isinstance(generate, Generate)
    jobs = (generate.load.jobs[0].model_copy(update={"flow": "older"}), *generate.load.jobs[1:])
    load = generate.load.model_copy(update={"jobs": jobs})
    steps = (generate.model_copy(update={"load": load}), *run.plan.steps[1:])
    run.folder.write("plan.json", run.plan.model_copy(update={"steps": steps}).model_dump_json().encode())


def other_references(run: MadeRun) -> None:
    folder = step_folder(run.folder, 1, "i1-evaluate")
    table = folder.read_table("prepared/answers.parquet").to_pydict()
    table["reference"][0] = "another"
    folder.write_table("prepared/answers.parquet", pa.table(table))


def without_a_part(run: MadeRun) -> None:
    step_folder(run.folder, 1, "i1-generate").delete("parts/pairs")


def without_what_was_asked(run: MadeRun) -> None:
    step_folder(run.folder, 1, "i1-evaluate").delete("prepared/answers.parquet")


def without_roles(run: MadeRun) -> None:
    folder = step_folder(run.folder, 1, "i1-evaluate")
    for part in folder.files("parts/answers"):
        folder.write_table(part, folder.read_table(part).drop_columns(["role"]))


def without_a_ledger(run: MadeRun) -> None:
    folder = step_folder(run.folder, 1, "i1-generate")
    for part in folder.files("parts/pairs"):
        folder.write_table(part, folder.read_table(part).drop_columns(["_status"]))


REFUSED: dict[Callable[[MadeRun], None], str] = {
    no_run: "has no plan.json, so no run is there; write the folder that `selfalign run` printed",
    cut_short: "is not what we write",
    not_evaluated: "is not evaluated yet: its step i1-evaluate is not done; run it to its end, or wait for it",
    never_evaluated: "is never evaluated; write evaluation.when: Last in a run with another name",
    of_nobody: "it has no owner.json; compare it with selfalign 0.1.0, or run it again with this version",
    without_seconds: "the manifest of i1-train has no seconds",
    without_checks: "the manifest of i1-evaluate has no checks",
    of_a_recipe_that_is_gone: "recipe older is not built in this version",
    of_a_flow_that_is_gone: "i1-generate has the flow older, which this version does not have",
    without_a_part: "lacks a file that its steps made",
    without_what_was_asked: "answers.parquet'",
    without_roles: "table answers of i1-evaluate has no column role; compare it with selfalign 0.1.0",
    without_a_ledger: "table pairs of i1-generate has no column _status",
    other_references: "were evaluated on the same 100 held-out prompts with other reference answers",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_what_cannot_be_compared_is_refused_in_words(
    first: MadeRun, tmp_path: Path, spoil: Callable[[MadeRun], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", SMALL)
    spoil(run)
    assert main(["compare", first.folder.place, run.folder.place, "--out", str(tmp_path / "out")]) == 64
    said = capsys.readouterr().err
    assert REFUSED[spoil] in said
    assert run.folder.place in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("held_out", "words"), [(90, "100 and 90, of which 90 are the same"), (101, "100 and 101")])
def test_other_held_out_prompts_are_refused_by_name(first: MadeRun, tmp_path: Path, held_out: int, words: str) -> None:
    run = make_run(tmp_path, replace(SMALL, held_out=held_out))
    with pytest.raises(ConfigError, match=rf"sao-tiny \({run.folder.place}\) were evaluated on .*{words}.*reuseFrom"):
        read_comparison([first.folder, run.folder])


def test_runs_without_a_check_in_common_are_refused(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / check, replace(SMALL, checks=(check,))) for check in ("accuracy", "win")]
    with pytest.raises(
        ConfigError, match=r"no check is common to all: .* has accuracy.greedy, accuracy.sampled; .* has win"
    ):
        read_comparison([run.folder for run in runs])


def test_all_that_is_wrong_is_said_at_once(first: MadeRun, tmp_path: Path) -> None:
    folders = [Folder.open((tmp_path / name).as_uri()) for name in ("one", "two")]
    with pytest.raises(ConfigError) as raised:
        read_comparison([folders[0], first.folder, folders[1]])
    assert [problem.path for problem in raised.value.problems] == ["RUN", "RUN"]


def test_the_folder_of_several_runs_is_told_apart_from_a_run(first: MadeRun) -> None:
    above = Folder.open(Path(first.folder.place).parents[1].as_uri())
    with pytest.raises(ConfigError, match=f"so no run is there; write {first.folder.place}"):
        read_comparison([above, first.folder])


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_takes_folders_and_urls_and_writes_both_files(
    first: MadeRun, second: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{second.folder.path}"
    assert main(["compare", first.folder.place, url, "--out", str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["compare.html", "compare.json"]
    assert "against A" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["hf://org/name", "pvc://claim/run", "http://host/run", "file://host/run", "s3:/b"])
def test_a_place_of_another_kind_is_refused(first: MadeRun, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", first.folder.place, place]) == 64
    assert "RUN: " in capsys.readouterr().err


def test_a_file_is_no_folder_to_write_to(first: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["compare", *[first.folder.place] * 2, "--out", str(tmp_path / "file" / "below")]) == 64
    assert f"--out: {tmp_path}/file is a file; write another folder" in capsys.readouterr().err


def test_one_run_is_too_few(first: MadeRun) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", first.folder.place])
    assert ended.value.code == 2
