"""The report that steps leave in the run's folder, wherever they run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from played_shapes import known, played

from selfalign_api.plan import Evaluate, Plan
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.entry import leave_report, run_step
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress

CPU = GenerationMeans(device="CPU")
MEANS = Means(generation=CPU, training=TrainingMeans(device="CPU"), evaluation=CPU)


def context_of(folder: Folder, plan: Plan, name: str) -> StepContext:
    step = plan.step(name)
    config = StepConfig(plan=plan, step=name, attempt=2, storage=f"file://{folder.path}", means=MEANS)
    return StepContext(config, folder, step_folder(folder, step.iteration, name), Progress(name), threading.Event())


def test_the_last_step_of_an_iteration_leaves_the_report_and_no_other_does(tmp_path: Path) -> None:
    with known("synpo"):
        folder, plan = played(tmp_path, "synpo")
        for step in plan.steps:
            last = step.name == [each.name for each in plan.steps if each.iteration == step.iteration][-1]
            for name in ("report.html", "summary.json"):
                folder.delete(name)
            run_step(context_of(folder, plan, step.name))  # it is done: its result is taken
            assert (folder.exists("report.html"), folder.exists("summary.json")) == (last, last)
        assert json.loads(folder.read("summary.json"))["finished"]


def test_a_report_that_cannot_be_written_costs_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with known("offline"):
        folder, plan = played(tmp_path, "offline")
        step = next(step for step in plan.steps if isinstance(step, Evaluate))
        place = step_folder(folder, step.iteration, step.name)
        place.write(next(name for name in place.files("parts") if name.endswith(".parquet")), b"cut short")
        leave_report(context_of(folder, plan, step.name))
    assert "the step is not concerned" in capsys.readouterr().err
    assert not folder.exists("report.html")
