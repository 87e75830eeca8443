"""Plans of other shapes than SAO's: several trainings and generations an iteration, and none; what shows a run reads its plan."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from plans import made
from played_shapes import SHAPES, known, played
from rich.console import Console

from selfalign_api.method import Output
from selfalign_api.plan import Evaluate, Generate, Judge, Plan, SourceRef, Train, artifacts_of
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.accept.foreseen import foreseen
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.local.panel import Panel, PlainLines, headline
from selfalign_jobs.local.show_plan import plan_table
from selfalign_jobs.places.store import Folder, read_manifest, step_folder
from selfalign_jobs.publish.program import publish
from selfalign_jobs.recipes.method import Evaluation
from selfalign_jobs.report import finish_report, render_report, summary
from selfalign_jobs.report.of_tables import unit_of
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.card import card

CPU = GenerationMeans(device="CPU")
LAST = Evaluation(when="Last", prompts_given=True, checks=())  # nothing is asked of its figures
MEANS = Means(generation=CPU, training=TrainingMeans(device="CPU"), evaluation=CPU)


@pytest.fixture(scope="module", params=SHAPES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, Plan]]:
    with known(request.param):
        yield played(tmp_path_factory.mktemp("shape"), request.param)


def sections(page: str) -> dict[str, str]:
    """Headings by id."""
    return dict(re.findall(r'<section id="([^"]+)">\n<h2>([^<]+)</h2>', page))


def test_every_training_has_its_curves_and_every_id_is_there_once(run: tuple[Folder, Plan]) -> None:
    folder, plan = run
    page = render_report(folder, plan)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    trainings = [step for step in plan.steps if isinstance(step, Train)]
    assert sum(name.startswith("training") for name in sections(page)) == len(trainings)
    assert not re.search(r">(None|nan|[^<]*\{\}[^<]*)<", page)


def test_every_table_of_a_generation_is_told_of(run: tuple[Folder, Plan]) -> None:
    folder, plan = run
    page = render_report(folder, plan)
    made = [(step.name, job.out) for step in plan.steps if isinstance(step, Generate) for job in step.load.jobs]
    funnels = [title for title in sections(page).values() if title.startswith("From ")]
    rows = re.findall(r"<tr><td>([^<]+)</td><td>([^<]+)</td><td>[^<]+</td><td class=\"n\">100</td>", page)
    assert len(funnels) + len([row for row in rows if row in made]) == len(made)
    assert set(rows) >= {
        table for table in made if not any(title.split(" to ")[1].startswith(table[1]) for title in funnels)
    }


def test_the_summary_has_every_table_every_training_and_the_effect(run: tuple[Folder, Plan]) -> None:
    folder, plan = run
    output = StringIO()
    finish_report(folder, plan, Console(file=output, width=200))
    found = json.loads(folder.read("summary.json"))
    assert found == summary(folder, plan)
    assert found["trained"] == {step.name: 86 for step in plan.steps if isinstance(step, Train)}
    made = {
        f"{s.name}.{job.out}"
        for s in plan.steps
        if isinstance(s, Generate | Evaluate)
        for load in s.loads
        for job in load.jobs
    }
    assert found["rows"].keys() == made
    evaluated = any(isinstance(step, Evaluate) for step in plan.steps)
    assert found["effect"].get("accuracy.sampled.gain") == (0.2 if evaluated else None)
    for step in plan.steps:
        assert step.name in output.getvalue()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_of_it_that_stands_in_any_step_has_a_report(tmp_path: Path, shape: str) -> None:
    with known(shape):
        for number, step in enumerate(SHAPES[shape]()):
            folder, plan = played(tmp_path / str(number), shape, until=step.name)
            page = render_report(folder, plan)
            assert "not finished: this shows what is there so far" in page
            assert not summary(folder, plan)["finished"]


def test_objectives_have_series_of_their_own(tmp_path: Path) -> None:
    with known("pit"):
        page = render_report(*played(tmp_path, "pit"))
    parts = {name: page.partition(f'<section id="{name}">')[2].partition("</section>")[0] for name in sections(page)}
    assert "Reward margin" not in parts["training-improver-1"]
    assert "targets a step" in parts["training-improver-1"]
    assert "β" not in parts["training-improver-1"]
    assert "Pairs that the rewards order rightly" in parts["training-reward-1"]
    assert "Pairs that the policy orders as they are labelled" in parts["training-policy-1"]


def test_scores_are_drawn_and_remarks_stand_at_their_table(tmp_path: Path) -> None:
    with known("synpo"):
        folder, plan = played(tmp_path, "synpo")
        page, found = render_report(folder, plan), summary(folder, plan)
    parts = {name: page.partition(f'<section id="{name}">')[2].partition("</section>")[0] for name in sections(page)}
    assert {"scores-1", "scores-2"} <= parts.keys()
    assert 'aria-label="scores"' in parts["scores-1"]
    assert "−" in parts["scores-1"]  # a score may be below 0
    assert "<b>0.25</b> is what the improver adds to a draft." in parts["funnel-pairs-1"]
    assert found["effect"]["improved"] == 0.25
    assert found["pairs"] == 160


def test_pairs_of_ones_own_have_no_funnel_and_are_shown_as_they_are_trained_on(tmp_path: Path) -> None:
    with known("offline"):
        folder, plan = played(tmp_path, "offline")
        page, found = render_report(folder, plan), summary(folder, plan)
    assert not any(name.startswith(("funnel", "verdicts")) for name in sections(page))
    assert {"lengths-1", "samples-1"} <= sections(page).keys()
    assert "20 of 90 given pairs, drawn by the run's seed and not picked. " in page
    assert "answers cut at maxTokens" not in page
    assert "pairs trained on" in page
    assert found["pairs"] is None
    assert "Before and after" in page


def test_the_printed_plan_has_a_row_a_step_with_what_it_reads_and_makes(run: tuple[Folder, Plan]) -> None:
    _, plan = run
    console = Console(file=StringIO(), width=400)
    console.print(plan_table(plan, dict.fromkeys(plan.sources, 100), MEANS, ()))
    assert isinstance(console.file, StringIO)
    lines = {line.split()[0]: line for line in console.file.getvalue().splitlines() if line.strip()}
    for step in plan.steps:
        made = [f"{step.result.lineage}/{step.result.iteration}"] if isinstance(step, Train) else [*step.outputs]
        read = [f"{ref.step}:{ref.name}" for ref in artifacts_of(step) if ref.step != step.name]
        assert [
            word for word in (*made, *read, plan.step_digest(step.name)[7:19]) if word not in lines[step.name]
        ] == []
        if isinstance(step, Train):
            assert ("β" in lines[step.name]) == (step.objective == "preference")
            assert "at most" in lines[step.name]
        elif isinstance(step, Generate):
            assert ("(scores)" in lines[step.name]) == (step.load.task == "score")


def test_what_is_foreseen_of_each_training_names_its_rows(run: tuple[Folder, Plan]) -> None:
    _, plan = run
    told = " ".join(foreseen(plan, dict.fromkeys(plan.sources, 3)))
    for step in plan.steps:
        if isinstance(step, Train):
            assert f"{step.rows} there are" in told


def test_the_card_of_every_trained_model_says_what_it_was_trained_on(run: tuple[Folder, Plan]) -> None:
    _, plan = run
    for step in plan.steps:
        if isinstance(step, Train):
            assert plan.given(step.start).url in ("file:///policy", "file:///proposer")
            text = card(plan, step, [], 7, adapter=False)
            assert f"| {step.rows} | 7 |" in text
            assert ("text-generation" in text) == (step.objective in ("preference", "sft"))
            assert all(ref.name in text for ref in step.data.inputs if isinstance(ref, SourceRef))


def test_the_panel_has_a_line_a_step_and_its_figures(run: tuple[Folder, Plan]) -> None:
    folder, plan = run
    console = Console(file=StringIO(), width=200)
    panel, lines = Panel(plan, console), PlainLines(console)
    for step in plan.steps:
        manifest = read_manifest(step_folder(folder, step.iteration, step.name))
        assert manifest is not None
        panel.started(step, 1)
        panel.finished(step, manifest)
        lines.finished(step, manifest)
        if isinstance(step, Generate):
            assert f"{step.load.jobs[0].out} 80" in headline(manifest)
    console.print(panel.render())
    assert isinstance(console.file, StringIO)
    assert all(f"✓ {step.name}" in console.file.getvalue() for step in plan.steps)


def test_tables_of_one_iteration_are_published_side_by_side(tmp_path: Path) -> None:
    tables = (made("i1-answers", "answers"), made("i1-answers", "seed-answers"), made("i2-score", "pairs"))
    target = tmp_path / "published"
    with known("synpo"):
        folder, plan = played(tmp_path, "synpo")
        (copy,) = publish_steps(plan.steps, Output(url=None, dataset_url=target.as_uri()), LAST, tmp_path)
        assert copy.pairs == (made("i1-score", "pairs"), made("i2-score", "pairs"))
        copy = copy.model_copy(update={"pairs": tables})
        plan = Plan(**dict(plan) | {"steps": (*plan.steps, copy)})
        config = StepConfig(plan=plan, step=copy.name, attempt=1, storage=f"file://{folder.path}", means=MEANS)
        place = step_folder(folder, copy.iteration, copy.name)
        publish(StepContext(config, folder, place, Progress(copy.name), threading.Event()), copy)
    names = {file.relative_to(target).as_posix() for file in target.rglob("*.parquet")}
    assert names == {
        "data/iter-1-i1-answers-answers.parquet",
        "data/iter-1-i1-answers-seed-answers.parquet",
        "data/iter-2.parquet",
    }
    assert "240 pairs" in (target / "README.md").read_text()


def test_margins_of_a_scoring_model_are_no_nats() -> None:
    assert unit_of(Judge(method="score", verdicts=("a", "b"), scorer="RewardModel")) == "score gap"
    assert unit_of(Judge(verdicts=("a", "b"))) == unit_of(None) == "nats"
