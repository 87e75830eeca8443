"""Event files as TensorBoard reads them: every point that counts once, whatever attempts were killed before."""

from __future__ import annotations

import errno
import importlib.util
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from selfalign_jobs.places.store import Folder
from selfalign_jobs.step import points
from selfalign_jobs.step.events import Events
from selfalign_jobs.step.metrics import LogRow

ROW = {
    "step": 1, "loss": 0.5, "rewards_chosen": 1.0, "rewards_rejected": -1.0, "margin": 2.0, "accuracy": 0.75,
    "learning_rate": 1e-6, "gradient_norm": 2.0, "tokens": 64, "computed_tokens": 32, "tokens_per_second": 9.0,
    "computed_tokens_per_second": 4.5, "flops": 1e9, "seconds": 1.0,
}  # fmt: skip


def row(step: int, attempt: int) -> LogRow:
    """Another attempt's numbers are others: which of them is shown can be told."""
    return ROW | {"step": step, "loss": step + attempt / 16, "seconds": float(step)}


def scalars(reader: EventAccumulator, name: str) -> list[tuple[int, float]]:
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(name)]


def reader(folder: Folder) -> EventAccumulator:
    return EventAccumulator(folder.path, size_guidance={"scalars": 0})


@contextmanager
def new_folder() -> Iterator[Folder]:
    with tempfile.TemporaryDirectory() as path:
        yield Folder.open(Path(path).as_uri())


@settings(max_examples=15, deadline=None)
@given(
    killed=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40), st.booleans()), max_size=4), last=st.integers(1, 9)
)
def test_a_training_that_is_killed_and_goes_on_has_every_step_once(
    killed: list[tuple[int, int, bool]], last: int
) -> None:
    """Each attempt goes on from a checkpoint that may lie steps before where it was killed, in the middle of a record too."""
    with new_folder() as folder:
        watching, counts = reader(folder), list[LogRow]()
        for attempt, (further, torn, looked_at) in enumerate([*killed, (last, 0, True)], start=1):
            events = Events(folder, attempt)
            events.add(points.of_log(counts, 100.0))
            fresh = [row(len(counts) + number, attempt) for number in range(1, further + 1)]
            for each in fresh:
                events.add(points.of_row(each, 100.0))
            if attempt <= len(killed):
                counts += fresh[: further // 2]
                for name in folder.files() if torn else ():
                    whole = folder.read(name)
                    folder.write(name, whole[: max(1, len(whole) - torn)])
            else:
                counts += fresh
                events.close()
            if looked_at and fresh:
                watching.Reload()
        expected = [(each["step"], each["loss"]) for each in counts]
        assert scalars(reader(folder), "train/loss") == expected
        assert scalars(watching, "train/loss") == expected


def test_the_names_are_those_that_trl_logs_as_transformers_callback_writes_them() -> None:
    found = importlib.util.find_spec("trl")
    assert found is not None and found.submodule_search_locations is not None
    dpo = (Path(found.submodule_search_locations[0]) / "trainer" / "dpo_trainer.py").read_text()
    logged = {f"train/{name}" for name in re.findall(r'\["(rewards/\w+)"\]', dpo)} | {
        "train/loss",
        "train/learning_rate",
    }
    assert len(logged) > 4
    assert {point.name for point in points.of_row(ROW, 0.0)} >= logged


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_was_not_measured_is_no_point(value: float | None) -> None:
    found = {point.name for point in points.of_row(ROW | {"gradient_norm": value, "mfu": value}, 0.0)}
    assert "train/loss" in found
    assert not found & {"train/grad_norm", "train/mfu"}


def test_a_log_without_rows_has_no_points() -> None:
    assert list(points.of_log([], 0.0)) == []


def test_earlier_rows_lie_as_far_back_as_their_steps_took() -> None:
    at = {point.step: point.at for point in points.of_log([row(1, 0), row(4, 0)], 100.0)}
    assert at == {1: 97.0, 4: 100.0}


def test_a_figure_of_an_evaluation_has_the_ends_of_its_interval() -> None:
    checks = {"accuracy.greedy.gain": {"value": 0.25, "low": 0.125, "high": 0.375, "n": 600}}
    with new_folder() as folder:
        events = Events(folder, 1)
        events.add(points.of_checks(checks, 2, 0.0))
        events.close()
        found = reader(folder)
        read = {name: scalars(found, f"eval/accuracy.greedy.gain{name}") for name in ("", "_low", "_high", "_n")}
    assert read == {"": [(2, 0.25)], "_low": [(2, 0.125)], "_high": [(2, 0.375)], "_n": [(2, 600.0)]}


def test_points_can_be_read_while_the_training_goes_on(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path.as_uri())
    events = Events(folder, 1)
    events.add(points.of_row(row(1, 0), 0.0))
    assert scalars(reader(folder), "train/loss") == [(1, 1.0)]
    events.close()


def test_a_step_without_points_leaves_no_file(tmp_path: Path) -> None:
    events = Events(folder := Folder.open(tmp_path.as_uri()), 1)
    events.add([])
    events.close()
    assert folder.files() == []


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    events = Events(Folder.open(tmp_path.as_uri()), 1)
    for step in (1, 2, 3):
        events.add(points.of_row(row(step, 0), 0.0))
    events.close()
    assert capfd.readouterr().err.count("no more events for TensorBoard can be written") == 1
