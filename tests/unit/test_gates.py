"""Gates: what figures must reach before anything is published."""

from __future__ import annotations

import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_shapes import known, played
from rich.console import Console

from selfalign_api.errors import ConfigError
from selfalign_api.method import Output
from selfalign_api.plan import Gate, ModelRef, Plan, Publish, Round, artifacts_of, models_of
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.publish.gates import held_against
from selfalign_jobs.publish.program import publish
from selfalign_jobs.publish.rounds import published_round
from selfalign_jobs.recipes.method import Evaluation
from selfalign_jobs.report import finish_report, render_report, summary
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress

CPU = GenerationMeans(device="CPU")
MEANS = Means(generation=CPU, training=TrainingMeans(device="CPU"), evaluation=CPU)


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 500}


FIGURES = {
    "win": figure(0.56, 0.52, 0.60),
    "accuracy.greedy.before": figure(0.60, 0.55, 0.65),
    "accuracy.greedy.after": figure(0.70, 0.65, 0.75),
    "accuracy.greedy.gain": figure(0.10, 0.04, 0.16),
    "accuracy.sampled.before": figure(0.40, 0.35, 0.45),
    "accuracy.sampled.after": figure(0.45, 0.40, 0.50),
    "accuracy.sampled.gain": figure(0.05, -0.01, 0.11),
}


@pytest.mark.parametrize(
    ("check", "wanted", "numbers"),
    [
        ("win", "value", {"win": 0.56}),
        ("win", "low", {"win": 0.52}),
        ("accuracy", "value", {"accuracy.greedy.after": 0.70, "accuracy.sampled.after": 0.45}),
        ("accuracy", "gain", {"accuracy.greedy.gain": 0.10, "accuracy.sampled.gain": 0.05}),
        ("accuracy", "low", {"accuracy.greedy.gain": 0.04, "accuracy.sampled.gain": -0.01}),
    ],
)
def test_a_gate_is_about_the_new_model_s_figures_of_its_check_at_every_temperature(
    check: str, wanted: str, numbers: dict[str, float]
) -> None:
    found = held_against([Gate(check=check, figure=wanted, at_least=0.0)], FIGURES)  # type: ignore[arg-type]
    assert {passed.figure: passed.asked for passed in found} == numbers


@given(st.floats(-1, 1), st.sampled_from(["value", "low"]))
def test_a_gate_is_passed_by_what_is_no_less(at_least: float, wanted: str) -> None:
    (passed,) = held_against([Gate(check="win", figure=wanted, at_least=at_least)], FIGURES)  # type: ignore[arg-type]
    assert passed.met == (at_least <= {"value": 0.56, "low": 0.52}[wanted])


def asked(**values: Any) -> Evaluation:
    return Evaluation(when="EachIteration", prompts_given=True, checks=(), **values)


def gated(tmp_path: Path, *gates: Gate, output: Output | None = None) -> tuple[Folder, Plan, Publish]:
    """A run on pairs of one's own that is evaluated: its gain is 0.2 (0.15 to 0.25), as `played_shapes` says."""
    folder, plan = played(tmp_path, "offline")
    (step,) = publish_steps(plan.steps, output, asked(gates=gates), tmp_path)
    return folder, Plan(**dict(plan) | {"steps": (*plan.steps, step)}), step


def run_of(folder: Folder, plan: Plan, step: Publish) -> None:
    config = StepConfig(plan=plan, step=step.name, attempt=1, storage=f"file://{folder.path}", means=MEANS)
    place = step_folder(folder, step.iteration, step.name)
    publish(StepContext(config, folder, place, Progress(step.name), threading.Event()), step)


@given(st.lists(st.integers(0, 500).map(lambda right: right / 500), min_size=1, max_size=5))
def test_the_best_round_is_published_and_of_equal_ones_the_earlier(values: list[float]) -> None:
    rounds = [Round(iteration=k, model=ModelRef(iteration=k), pairs=()) for k in range(1, len(values) + 1)]
    step = Publish(**dict(rounds[-1]), url="s3://out/model", dataset_url=None, earlier=tuple(rounds[:-1]))
    evaluated = {
        k: {"acc.greedy.after": figure(value, 0, 1), "acc.sampled.after": figure(0.5, 0, 1), "win": figure(1 / k, 0, 1)}
        for k, value in enumerate(values, start=1)
    }
    by_accuracy = published_round(step.model_copy(update={"select_by": "acc"}), evaluated)
    assert by_accuracy.iteration == values.index(max(values)) + 1
    assert published_round(step.model_copy(update={"select_by": "win"}), evaluated).iteration == 1
    assert published_round(step, evaluated).iteration == len(values)


def test_a_step_that_selects_reads_every_round_that_it_may_publish(tmp_path: Path) -> None:
    with known("synpo"):
        _, plan = played(tmp_path, "synpo")
        output = Output(url="s3://out/model", dataset_url="s3://out/pairs")
        (step,) = publish_steps(plan.steps, output, asked(select_by="accuracy"), tmp_path)
        (last,) = publish_steps(plan.steps, output, asked(), tmp_path)
    assert [each.iteration for each in (*step.earlier, step)] == [1, 2]
    assert models_of(step) == (ModelRef(iteration=2), ModelRef(iteration=1))
    assert models_of(last) == (ModelRef(iteration=2),)
    assert set(artifacts_of(step)) >= set(artifacts_of(last))


def test_nothing_is_published_of_a_run_that_does_not_pass(tmp_path: Path) -> None:
    target = tmp_path / "published"
    gate = Gate(check="accuracy", figure="gain", at_least=0.9)
    with known("offline"):
        folder, plan, step = gated(tmp_path, gate, output=Output(url=target.as_uri()))
        with pytest.raises(ConfigError, match=r"gates\[0\]: accuracy.*gain is .* and must be at least 0.9") as error:
            run_of(folder, plan, step)
        assert error.value.reason == "GateNotPassed"
        assert not target.exists()
        found = {gate["figure"]: gate["met"] for gate in summary(folder, plan)["gates"]}
        assert found == {"accuracy.greedy.gain": False, "accuracy.sampled.gain": False}
        assert "Gate not passed:" in render_report(folder, plan)


def test_gates_alone_are_a_step_that_copies_nothing(tmp_path: Path) -> None:
    gate = Gate(check="accuracy", figure="gain", at_least=-1)
    with known("offline"):
        folder, plan, step = gated(tmp_path, gate)
        assert (step.name, step.url, step.dataset_url) == ("gates", None, None)
        run_of(folder, plan, step)
        output = StringIO()
        finish_report(folder, plan, Console(file=output, width=200))
        assert "gate, accuracy.sampled.gain" in output.getvalue()
        assert "Gate passed:" in render_report(folder, plan)


def test_no_gate_and_no_output_are_no_step(tmp_path: Path) -> None:
    with known("offline"):
        _, plan = played(tmp_path, "offline")
    assert publish_steps(plan.steps, None, asked(), tmp_path) == ()
