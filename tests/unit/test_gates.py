"""Gates: what figures must reach before anything is published."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_shapes import known, played
from published import asked, run_of
from rich.console import Console

from selfalign_api.errors import ConfigError
from selfalign_api.method import Output
from selfalign_api.plan import ArtifactRef, Check, Gate, ModelRef, Plan, Publish, Round, artifacts_of, models_of
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.evaluate.statistics import paired_gain
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.publish.gates import held, refuse_unmet
from selfalign_jobs.publish.rounds import Rounds
from selfalign_jobs.report import finish_report, render_report, summary
from selfalign_jobs.step.context import Stopped


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 500}


FIGURES = {
    "win": figure(0.56, 0.52, 0.60),
    "accuracy.greedy.before": figure(0.60, 0.55, 0.65),
    "accuracy.greedy.after": figure(0.70, 0.65, 0.75),
    "accuracy.greedy.gain": figure(0.10, 0.04, 0.16),
    "accuracy.sampled-0.7.before": figure(0.40, 0.35, 0.45),
    "accuracy.sampled-0.7.after": figure(0.45, 0.40, 0.50),
    "accuracy.sampled-0.7.gain": figure(0.05, -0.01, 0.11),
    "accuracy.hard.greedy.after": figure(0.20, 0.15, 0.25),  # of a check whose name begins as another's
    "accuracy.hard.greedy.gain": figure(-0.30, -0.35, -0.25),
}


def check(name: str, *temperatures: float) -> Check:
    kind: Any = "ExactMatch" if temperatures else "SelfWinRate"
    before, after = ArtifactRef(step="i1-evaluate", name="before"), ArtifactRef(step="i1-evaluate", name="after")
    return Check(name=name, type=kind, before=before, after=after, temperatures=temperatures)


CHECKS = {each.name: each for each in (check("win"), check("accuracy", 0, 0.7), check("accuracy.hard", 0))}


def rounds(*gates: Gate, select_by: str | None = None, evaluated: Mapping[int, Any] | None = None) -> Rounds:
    """Rounds with figures, all of which a step may publish."""
    evaluated = {1: FIGURES} if evaluated is None else evaluated
    *earlier, last = (Round(iteration=k, model=ModelRef(iteration=k), pairs=()) for k in evaluated)
    step = Publish(
        **dict(last), url="s3://out/model", dataset_url=None, gates=gates, select_by=select_by, earlier=tuple(earlier)
    )
    return Rounds(step, CHECKS, evaluated)


def gate(of: str, wanted: str, at_least: float = 0.0) -> Gate:
    return Gate(check=of, figure=wanted, at_least=at_least)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "wanted", "numbers"),
    [
        ("win", "value", {"win": 0.56}),
        ("win", "low", {"win": 0.52}),
        ("accuracy", "value", {"accuracy.greedy.after": 0.70, "accuracy.sampled-0.7.after": 0.45}),
        ("accuracy", "gain", {"accuracy.greedy.gain": 0.10, "accuracy.sampled-0.7.gain": 0.05}),
        ("accuracy", "low", {"accuracy.greedy.gain": 0.04, "accuracy.sampled-0.7.gain": -0.01}),
        ("accuracy.hard", "gain", {"accuracy.hard.greedy.gain": -0.30}),
    ],
)
def test_a_gate_is_about_the_new_model_s_figures_of_its_check_at_every_temperature(
    of: str, wanted: str, numbers: dict[str, float]
) -> None:
    assert {each.figure: each.asked for each in held(rounds(gate(of, wanted)))} == numbers


@given(st.floats(0, 1), st.sampled_from(["value", "low"]))
def test_a_gate_is_passed_by_what_is_no_less(at_least: float, wanted: str) -> None:
    (found,) = held(rounds(gate("win", wanted, at_least)))
    assert found.met == (at_least <= {"value": 0.56, "low": 0.52}[wanted])


@pytest.mark.parametrize(
    ("of", "wanted", "at_least", "words"),
    [
        ("win", "value", 0.6, "win: value 0.560 (95 %: 0.520 to 0.600), asked: at least 0.6"),
        ("win", "low", 0.55, "win: low 0.520 (value 0.560, 95 %: 0.520 to 0.600), asked: at least 0.55"),
        ("accuracy", "value", 0.9, "accuracy at T = 0: value 0.700 (95 %: 0.650 to 0.750), asked: at least 0.9"),
        ("accuracy", "gain", 0.2, "accuracy at T = 0: gain +0.100 (95 %: +0.040 to +0.160), asked: at least +0.2"),
        (
            "accuracy",
            "low",
            0,
            "accuracy at T = 0.7: low -0.010 (gain +0.050, 95 %: -0.010 to +0.110), asked: at least +0",
        ),
    ],
)
def test_an_unmet_gate_says_what_is_there_and_what_was_asked(of: str, wanted: str, at_least: float, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        refuse_unmet(rounds(gate("accuracy", "gain", -1), gate(of, wanted, at_least)))
    assert f"spec.evaluation.gates[1]: {words}; nothing was published" in str(error.value).splitlines()
    assert error.value.reason == "GateNotPassed"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=200), st.integers(0, 2**32 - 1))
def test_what_has_gained_nothing_passes_no_gate_on_the_low_end(answers: list[tuple[bool, bool]], seed: int) -> None:
    """As after a judge at random: however its answers fall, what is right as often as before is not published."""
    before, after = [a and b for a, b in answers], [a or b for a, b in answers]
    gain = paired_gain(after, before, seed)  # never above 0
    figures = {"accuracy.hard.greedy.gain": asdict(gain)}
    with pytest.raises(ConfigError, match=r"accuracy\.hard at T = 0: low"):
        refuse_unmet(rounds(gate("accuracy.hard", "low", 0.01), evaluated={1: figures}))


def test_a_figure_that_is_missing_is_no_gate_that_is_passed() -> None:
    with pytest.raises(KeyError):
        refuse_unmet(rounds(gate("accuracy", "gain", -1), evaluated={1: {"win": FIGURES["win"]}}))


def gated(tmp_path: Path, *gates: Gate, output: Output | None = None) -> tuple[Folder, Plan, Publish]:
    """A run on pairs of one's own that is evaluated: its gain is 0.2 (0.15 to 0.25), as `played_shapes` says."""
    folder, plan = played(tmp_path, "offline")
    (step,) = publish_steps(plan.steps, output, asked(gates=gates), tmp_path)
    return folder, Plan(**dict(plan) | {"steps": (*plan.steps, step)}), step


@given(st.lists(st.integers(0, 500).map(lambda right: right / 500), min_size=1, max_size=5))
def test_the_best_round_is_published_and_of_equal_ones_the_earlier(values: list[float]) -> None:
    evaluated = {
        k: {
            "accuracy.greedy.after": figure(value, 0, 1),
            "accuracy.sampled-0.7.after": figure(0.5, 0, 1),
            "win": figure(1 / k, 0, 1),
        }
        for k, value in enumerate(values, start=1)
    }
    assert rounds(select_by="accuracy", evaluated=evaluated).chosen.iteration == values.index(max(values)) + 1
    assert rounds(select_by="win", evaluated=evaluated).chosen.iteration == 1
    assert rounds(evaluated=evaluated).chosen.iteration == len(values)


@given(st.integers(1, 999), st.integers(1, 999), st.integers(2, 1000))
def test_rounds_that_differ_by_rounding_alone_are_equal(first: int, second: int, prompts: int) -> None:
    """Right at two temperatures as often as at the other two, however it is shared out, is no better."""
    values = [first % (prompts + 1), second % (prompts + 1)]
    shared = [sum(values) // 2, sum(values) - sum(values) // 2]
    one, other = (
        {
            name: figure(round(right / prompts, 6), 0, 1)
            for name, right in zip(("accuracy.greedy.after", "accuracy.sampled-0.7.after"), each, strict=True)
        }
        for each in (values, shared)
    )
    assert rounds(select_by="accuracy", evaluated={1: one, 2: other}).chosen.iteration == 1
    assert rounds(select_by="accuracy", evaluated={1: other, 2: one}).chosen.iteration == 1


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
    with known("offline"):
        output = Output(url=target.as_uri())
        folder, plan, step = gated(tmp_path, gate("accuracy", "gain", 0.9), output=output)
        before = contents(tmp_path)
        with pytest.raises(ConfigError, match=r"gates\[0\]: accuracy at T = 0: gain .*asked: at least \+0.9") as error:
            run_of(folder, plan, step)
        assert error.value.reason == "GateNotPassed"
        assert contents(tmp_path) == before  # nothing is written, so a kill anywhere changes nothing
        found = {gate["figure"]: gate["met"] for gate in summary(folder, plan)["gates"]}
        assert found == {"accuracy.greedy.gain": False, "accuracy.sampled.gain": False}
        assert "✗ Gate not passed:" in render_report(folder, plan)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class After(threading.Event):
    """Set when it was looked at so often."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("files", range(4))
def test_a_stop_between_the_gate_and_the_last_file_changes_nothing_in_the_end(tmp_path: Path, files: int) -> None:
    target = tmp_path / "published"
    with known("offline"):
        folder, plan, step = gated(tmp_path, gate("accuracy", "low", 0.1), output=Output(url=target.as_uri()))
        model = step_folder(folder, 1, "i1-train").child("model")
        for name in ("config.json", "README.md", "model.safetensors"):
            model.write(name, name.encode())
        with pytest.raises(Stopped) if files < 3 else nullcontext():
            run_of(folder, plan, step, After(files))
        assert ("README.md" in contents(target)) == (files == 3)  # the card is the last
        run_of(folder, plan, step)
    assert sorted(contents(target)) == ["README.md", "config.json", "model.safetensors", "selfalign.json"]
    assert "accuracy.greedy.gain | 0.200" in (target / "README.md").read_text()


def test_the_best_round_and_why_stand_in_card_lineage_report_and_summary(tmp_path: Path) -> None:
    target = tmp_path / "published"
    with known("offline"):
        folder, plan = played(tmp_path, "offline")
        (step,) = publish_steps(plan.steps, Output(url=target.as_uri()), asked(select_by="accuracy"), tmp_path)
        plan = Plan(**dict(plan) | {"steps": (*plan.steps, step)})
        step_folder(folder, 1, "i1-train").write("model/README.md", b"# A model\n")
        run_of(folder, plan, step)
        chosen = {"iteration": 1, "selectBy": "accuracy", "values": {"1": 0.7}, "loopEndedAfter": None}
        assert summary(folder, plan)["chosen"] == chosen
        assert "Iteration 1 is the best by accuracy" in render_report(folder, plan)
    card, lineage = (target / "README.md").read_text(), json.loads((target / "selfalign.json").read_bytes())
    assert "This is the model of iteration 1, the best by accuracy: 0.700 after iteration 1." in card
    assert (lineage["iteration"], lineage["selectBy"], lineage["values"]) == (1, "accuracy", {"1": 0.7})


def test_gates_alone_are_a_step_that_copies_nothing(tmp_path: Path) -> None:
    with known("offline"):
        folder, plan, step = gated(tmp_path, gate("accuracy", "gain", -1))
        assert (step.name, step.url, step.dataset_url) == ("gates", None, None)
        run_of(folder, plan, step)
        output = StringIO()
        finish_report(folder, plan, Console(file=output, width=200))
        assert "gate, accuracy.sampled.gain" in output.getvalue()
        assert "✓ Gate passed:" in render_report(folder, plan)


def test_a_check_to_select_by_is_read_without_an_output_too(tmp_path: Path) -> None:
    with known("offline"):
        _, plan = played(tmp_path, "offline")
        (step,) = publish_steps(plan.steps, None, asked(select_by="accuracy"), tmp_path)
    assert (step.name, step.url, step.select_by) == ("select", None, "accuracy")


def test_no_gate_and_no_output_are_no_step(tmp_path: Path) -> None:
    with known("offline"):
        _, plan = played(tmp_path, "offline")
    assert publish_steps(plan.steps, None, asked(), tmp_path) == ()
