"""What a run of PIT leaves: its report's figures, and both models where its output goes (played by test_pit_recipe.py)."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from played_shapes import checks_of, finished, training_log
from published import MEANS
from test_pit_recipe import PIT, SPEC, Played, method

from selfalign_api.method import Output
from selfalign_api.plan import Generate, Plan, Publish, Train
from selfalign_api.run_file import StepConfig
from selfalign_api.sources import DataSource, ModelSource
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.generate.records import to_table
from selfalign_jobs.places.store import Folder, TableEntry, step_folder
from selfalign_jobs.publish.program import publish
from selfalign_jobs.recipes.tables import counts_of, with_counts
from selfalign_jobs.report import render_report, summary
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Plan]:
    """The folder of the played run."""
    steps, where = PIT.plan(method()), tmp_path_factory.mktemp("run")
    played, folder = Played(steps), Folder.open((where / "run").as_uri())
    (copy,) = publish_steps(steps, Output(url=(where / "out").as_uri()), method().evaluation, where, PIT.beside)
    plan = Plan(
        version="0",
        name="r",
        recipe="pit",
        seed=0,
        digest="sha256:0",
        models={"policy": ModelSource(url="file:///m", digest="sha256:1")},
        sources={name: DataSource(url=f"file:///{name}", digest="sha256:2") for name in ("preferences", "evaluation")},
        steps=(*steps, copy),
    )
    for step in steps:
        place = step_folder(folder, step.iteration, step.name)
        tables: dict[str, TableEntry] = {}
        result = {"seconds": {"load": 1.0, "train": 2.0}, "pairs": 9}
        if isinstance(step, Train):
            rows = played.tables[step.name, "trained"]
            kept = pa.table({"row": list(range(rows.num_rows))})
            place.write_table("prepared/pairs.parquet", with_counts(kept, counts_of(rows)))
            log = training_log(step, np.random.default_rng(0))
            place.write_table("parts/log.parquet", log)
            tables["log"] = TableEntry(parts=("parts/log.parquet",), rows=log.num_rows)
            for name in ("README.md", "model.safetensors"):
                place.write(f"model/{name}", f"{name} of {step.name}\n".encode())
        else:
            for job in (job for load in step.loads for job in load.jobs):  # type: ignore[union-attr]
                records, part = played.records[step.name, job.out], f"parts/{job.out}/00001-000001-aaaaaaaa.parquet"
                place.write_table(part, to_table(records, PIT.flows[job.flow].schema))
                place.write_table(f"prepared/{job.out}.parquet", pa.table({"row": list(range(len(records)))}))
                tables[job.out] = TableEntry(parts=(part,), rows=sum(len(each.rows) for each in records))
            result = {"rows": {out: entry.rows for out, entry in tables.items()}, "seconds": {"generate": 3.0}}
            result |= {} if isinstance(step, Generate) else {"checks": checks_of(step)}  # type: ignore[arg-type]
        finished(place, plan, step, tables, result)
    return folder, plan


def test_the_report_has_the_gap_model_the_rounds_and_each_pass(
    run: tuple[Folder, Plan], played_effect: dict[str, float]
) -> None:
    page = render_report(*run)
    for words in (
        "of the pairs that the gap model was not trained on have all five orders right",
        "of them whose answers are of about one length",
        "stands in for the paper&#39;s reinforcement learning",
        "of the answers are right after pass 2 (greedy)",
        "Gaps that are ordered rightly",
        "no candidate is better than the draft",
    ):
        assert words in page, words
    effect = summary(*run)["effect"]
    assert played_effect.items() <= effect.items()


@pytest.fixture(name="played_effect")
def _played_effect() -> dict[str, float]:
    """By hand: three of the rounds' prompts make no pair; the script's first candidate is the bad one, at every pass."""
    return {"gapRight": 1.0, "gapOrdersRight": 1.0, "greedyPass0Right": 0.0, "greedyPass2Unchanged": 1.0}


def test_both_models_are_published_and_the_card_says_how_they_go_together(run: tuple[Folder, Plan]) -> None:
    folder, plan = run
    step = plan.steps[-1]
    assert isinstance(step, Publish) and step.url is not None
    config = StepConfig(plan=plan, step=step.name, attempt=1, storage=f"file://{folder.path}", means=MEANS)
    place = step_folder(folder, step.iteration, step.name)
    publish(StepContext(config, folder, place, Progress(step.name), threading.Event()), step)
    out = Path(step.url.removeprefix("file://"))
    assert (out / "model.safetensors").read_text() == "model.safetensors of i2-train\n"
    assert (out / "draft-model" / "model.safetensors").read_text() == "model.safetensors of i1-train-drafter\n"
    assert (out / "draft-model" / "README.md").read_text() == "README.md of i1-train-drafter\n"
    card = (out / "README.md").read_text()
    assert card.startswith("README.md of i2-train")
    assert "Have the model in draft-model/ answer" in card
    assert SPEC["generation"]["roles"][1]["template"] in card
