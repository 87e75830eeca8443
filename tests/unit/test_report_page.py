"""The report of whole runs: finished, unfinished, iterated, and with a model that writes HTML."""

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from report_run import Chances, MadeRun, contents, make_run
from rich.console import Console

from selfalign_api.digest import method_of as digested_method
from selfalign_api.load import load_run
from selfalign_api.outcome import termination_message
from selfalign_jobs.accept.owner import OWNER, Owner
from selfalign_jobs.accept.resolve import method_values
from selfalign_jobs.evaluate.statistics import exact_match
from selfalign_jobs.local.panel import headline
from selfalign_jobs.places.store import read_manifest, read_parts, step_folder
from selfalign_jobs.report import finish_report, render_report, summary
from selfalign_jobs.report.evidence import read_evidence
from selfalign_jobs.report.lineage import run_file

SMALL = {"personas": 120, "held_out": 60}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("run"), Chances(**SMALL, hostile=True))


def made(path: Path, **chances: object) -> MadeRun:
    return make_run(path, Chances(**(SMALL | chances)))  # type: ignore[arg-type]


def test_the_summary_has_the_accuracy_of_the_answers_that_are_there(run: MadeRun) -> None:
    found = summary(run.folder, run.plan)
    for step, table, moment in [("i1-generate", "initial-answers", "before"), ("i1-evaluate", "answers", "after")]:
        folder = step_folder(run.folder, 1, step)
        manifest = read_manifest(folder)
        assert manifest is not None
        rows = read_parts(folder, manifest.tables[table]).to_pylist()
        for role in ("greedy", "sampled"):
            right = [exact_match(row["answer"], row["reference"]) for row in rows if row["role"] == role]
            assert found["accuracy"][role][moment] == pytest.approx(sum(right) / len(right), abs=1e-6)


def test_the_summary_counts_pairs_and_seconds_of_every_step(run: MadeRun) -> None:
    found = summary(run.folder, run.plan)
    manifest = read_manifest(step_folder(run.folder, 1, "i1-generate"))
    assert manifest is not None
    assert found["pairs"] == manifest.tables["pairs"].rows
    assert list(found["seconds"]) == ["i1-generate", "i1-train", "i1-evaluate"]
    assert found["finished"] is True
    assert found["winRate"]["win"]["low"] <= found["winRate"]["win"]["value"] <= found["winRate"]["win"]["high"]


def test_the_panel_tells_what_an_evaluation_found(run: MadeRun) -> None:
    manifest = read_manifest(step_folder(run.folder, 1, "i1-evaluate"))
    assert manifest is not None
    value = manifest.result["checks"]["accuracy.sampled.after"]["value"]
    assert f"accuracy.sampled.after {value:.3f}" in headline(manifest)


def test_both_files_are_written_and_the_table_names_the_report(run: MadeRun) -> None:
    output = StringIO()
    finish_report(run.folder, run.plan, Console(file=output, width=200))
    assert json.loads(run.folder.read("summary.json")) == summary(run.folder, run.plan)
    assert run.folder.read("report.html").decode() == render_report(run.folder, run.plan)
    shown = output.getvalue()
    assert f"{run.folder.path}/report.html" in shown
    assert "accuracy, sampled" in shown


def test_texts_of_a_model_are_text(run: MadeRun) -> None:
    page = render_report(run.folder, run.plan)
    assert "<script" not in page
    assert "<img" not in page
    assert "&amp; {{ 7*7 }}" in page  # and no template either
    assert "window.hit=1&lt;/script&gt;" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)


def test_the_page_names_no_place_that_it_would_load(run: MadeRun) -> None:
    page = render_report(run.folder, run.plan)
    tags = re.findall(r"<[a-z][^>]*>", page)
    assert not [tag for tag in tags if re.search(r"\s(src|href|srcset|action|data|poster)=\"(?!#)", tag)]
    assert not re.search(r"@import|url\(", page)


def test_the_page_is_the_same_each_time(run: MadeRun) -> None:
    assert render_report(run.folder, run.plan) == render_report(run.folder, run.plan)


def test_every_section_is_there_and_linked(run: MadeRun) -> None:
    page = render_report(run.folder, run.plan)
    ids = re.findall(r'<section id="([^"]+)"', page)
    wanted = [
        "result",
        "funnel-1",
        "diversity-1",
        "verdicts-1",
        "lengths-1",
        "training-1",
        "samples-1",
        "time",
        "lineage",
    ]
    assert ids == wanted
    assert set(re.findall(r'href="#([^"]+)"', page)) >= set(ids)


def test_the_training_says_how_it_was_computed(run: MadeRun) -> None:
    page = render_report(run.folder, run.plan)
    assert "computed packed varlen bfloat16, ZeRO 2, at most 21,334 tokens a micro batch" in page
    assert "21,040 tokens/s of the pairs, 15,481 computed, MFU 41.2%" in page


def test_the_run_file_in_the_report_makes_the_same_method(run: MadeRun, tmp_path: Path) -> None:
    evidence = read_evidence(run.folder, run.plan)
    text = run_file(evidence)
    assert text is not None
    (tmp_path / "run.yaml").write_text(text)
    again = method_values(load_run(tmp_path / "run.yaml"), "CPU", {"selfalign": str(tmp_path)}, tmp_path)
    owner = Owner.model_validate_json(run.folder.read(OWNER))
    assert digested_method(again, contents(run.plan)) == owner.method
    assert again["model"]["url"] == run.plan.models["policy"].url
    assert "selfalign run run.yaml --mount selfalign=DIR --out DIR" in render_report(run.folder, run.plan)
    assert yaml.safe_load(text)["metadata"]["name"] == run.plan.name


def test_a_run_with_a_chat_template_of_its_own_is_reproduced_with_it(run: MadeRun) -> None:
    model = run.plan.models["policy"].model_copy(update={"chat_template": "{{ messages }}"})
    plan = run.plan.model_copy(update={"models": {"policy": model}})
    evidence = read_evidence(run.folder, plan)
    assert evidence.owner is not None
    method = evidence.owner.method | {"model": evidence.owner.method["model"] | {"chatTemplate": "{{ messages }}"}}
    text = run_file(replace(evidence, owner=evidence.owner.model_copy(update={"method": method})))
    assert yaml.safe_load(text or "")["spec"]["model"]["chatTemplateUrl"] == "./chat-template.jinja"
    assert "<pre>{{ messages }}</pre>" in render_report(run.folder, plan)


def test_a_run_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    run = made(tmp_path, until="i1-generate", share=0.0)
    found = summary(run.folder, run.plan)
    assert (found["finished"], found["pairs"], found["accuracy"], found["seconds"]) == (False, 0, {}, {})
    page = render_report(run.folder, run.plan)
    assert "not finished" in page
    assert "not done yet" in page


@pytest.mark.parametrize("until", ["i1-generate", "i1-train", "i1-evaluate"])
def test_an_unfinished_run_shows_what_is_there(tmp_path: Path, until: str) -> None:
    run = made(tmp_path, until=until)
    page = render_report(run.folder, run.plan)
    assert "not finished" in page
    assert 'id="samples-1"' in page
    assert ("not finished yet" in page) == (until == "i1-generate")
    assert 'id="result"' not in page


def test_a_run_whose_judge_sees_only_ties_has_a_report(tmp_path: Path) -> None:
    run = made(tmp_path, bias=14.0, until="i1-train")
    page = render_report(run.folder, run.plan)
    assert summary(run.folder, run.plan)["pairs"] == 0
    assert 'id="verdicts-1"' in page
    assert 'id="samples-1"' not in page


@pytest.mark.parametrize(("check", "other"), [("accuracy", "win"), ("win", "accuracy")])
def test_a_run_with_one_kind_of_check_shows_that_one(tmp_path: Path, check: str, other: str) -> None:
    run = made(tmp_path, checks=(check,))
    page = render_report(run.folder, run.plan)
    titles = {"accuracy": "Exact match before and after", "win": 'aria-label="Self-win rate"'}
    assert titles[check] in page
    assert titles[other] not in page
    assert ">None<" not in page
    found = summary(run.folder, run.plan)
    assert bool(found["accuracy"]) == (check == "accuracy")
    assert bool(found["winRate"]) == (check == "win")


def test_every_iteration_has_its_sections_and_its_row(tmp_path: Path) -> None:
    run = made(tmp_path, iterations=2)
    page = render_report(run.folder, run.plan)
    assert {f"funnel-{k}" for k in (1, 2)} <= set(re.findall(r'<section id="([^"]+)"', page))
    assert "sampled, iteration 2" in page
    newest = read_evidence(run.folder, run.plan).iterations[1].results["accuracy.sampled.after"]["value"]
    assert summary(run.folder, run.plan)["accuracy"]["sampled"]["after"] == newest


def test_position_bias_is_named(tmp_path: Path) -> None:
    run = made(tmp_path, bias=6.0)
    page = render_report(run.folder, run.plan)
    assert "position bias" in page.split("<nav")[0]


def test_what_steps_tell_of_themselves_is_in_their_manifests_and_in_the_summary(tmp_path: Path) -> None:
    run = made(tmp_path, bias=6.0, right=(0.5, 0.5), greedy=(0.5, 0.5), held_out=60)
    told = summary(run.folder, run.plan)["notes"]
    assert "position bias" in " ".join(told["i1-generate"])
    assert "No clear gain (accuracy, greedy)" in " ".join(told["i1-evaluate"])
    assert "rest on 60 held-out prompts" in " ".join(told["i1-evaluate"])
    for facts in read_evidence(run.folder, run.plan).steps:
        assert facts.manifest is not None
        message = json.loads(termination_message(facts.manifest.summary()))
        assert tuple(message["result"].get("notes", ())) == facts.notes


def test_a_judge_of_an_evaluation_that_sees_only_ties_is_told(tmp_path: Path) -> None:
    run = made(tmp_path, bias=14.0)
    told = summary(run.folder, run.plan)["notes"]
    for step in ("i1-generate", "i1-evaluate"):
        assert "are ties" in " ".join(told[step])


def test_parsed_verdicts_show_how_many_could_be_read(tmp_path: Path) -> None:
    run = made(tmp_path, method="generate", unparsed=0.3)
    page = render_report(run.folder, run.plan)
    assert "verdicts that could be read" in page
    assert "unparsed verdict" in page
    assert "could be read: the judge" in page.split("<nav")[0]


@pytest.mark.parametrize("method", ["paper", "random"])
def test_one_order_or_none_has_no_consistency(tmp_path: Path, method: str) -> None:
    run = made(tmp_path, method=method)
    page = render_report(run.folder, run.plan)
    assert re.search(r'both orders name the same answer</td><td class="n"><span class="dim">–', page)
    assert "one order" in page


def test_near_duplicates_are_a_fate_of_the_funnel(tmp_path: Path) -> None:
    run = made(tmp_path, personas=200, repeated=0.3, near={"method": "MinHash", "threshold": 0.9, "ngram": 1})
    (left,) = re.findall(
        r'<span class="dim">(\d+)</span> prompt is a near duplicate of an earlier one',
        render_report(run.folder, run.plan),
    )
    found = summary(run.folder, run.plan)
    assert int(left) > 20
    assert found["trained"]["i1-train"] == found["pairs"] - int(left) - 3  # three are too long (report_run.py)


def test_no_gain_is_called_none(tmp_path: Path) -> None:
    run = made(tmp_path, right=(0.5, 0.5), greedy=(0.5, 0.5))
    assert "No clear gain (accuracy, greedy)" in render_report(run.folder, run.plan)
