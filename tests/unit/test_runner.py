"""The local runner: steps in order, retries, stops, resumes; with a real process for each attempt."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from plans import plan_of, spin
from recorder import Recorder

from selfalign_api.errors import ConfigError
from selfalign_api.life import FailurePolicy, Tracking
from selfalign_api.run_file import GenerationMeans, Means, RunFile, TrainingMeans
from selfalign_jobs.local import runner
from selfalign_jobs.local.runner import LocalRun, RunHeld, RunStopped, StepFailed
from selfalign_jobs.places.store import Folder, read_manifest, step_folder, write_manifest, write_plan

PLAN = plan_of("spin", spin()[:2])
MEANS = Means(
    generation=GenerationMeans(device="CPU"),
    training=TrainingMeans(device="CPU"),
    evaluation=GenerationMeans(device="CPU"),
)


Runs = Callable[..., tuple[LocalRun, Recorder]]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Makes a runner whose steps do as the words say."""

    def make(generate: list[str], train: list[str] | None = None, retries: int = 3) -> tuple[LocalRun, Recorder]:
        script = {"i1-generate": generate, "i1-train": train or ["done"]}
        (tmp_path / "script.json").write_text(json.dumps(script))
        recorder = Recorder()
        policy = FailurePolicy(max_retries_per_step=retries, backoff_seconds=0)
        fake = Path(__file__).with_name("fake_step.py")
        write_plan(Folder.open(tmp_path.as_uri()), PLAN)
        file = RunFile(run={}, storage=tmp_path.as_uri(), means=MEANS)
        return LocalRun(PLAN, file, tmp_path, policy, recorder, program=(sys.executable, str(fake))), recorder

    return make


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake step imports our packages also where they are not installed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def test_steps_run_in_order(runs: Runs) -> None:
    run, recorder = runs(["done"])
    run.run()
    assert recorder.told == ["started i1-generate 1", "finished i1-generate", "started i1-train 1", "finished i1-train"]


def test_a_finished_run_starts_nothing(runs: Runs) -> None:
    runs(["done"])[0].run()
    run, recorder = runs(["1"])
    run.run()
    assert recorder.told == ["found i1-generate", "found i1-train"]


def test_a_failed_attempt_is_tried_again(runs: Runs) -> None:
    run, recorder = runs(["1", "kill", "done"])
    run.run()
    assert recorder.told[:5] == [
        "started i1-generate 1",
        "retried i1-generate after 0",
        "started i1-generate 2",
        "retried i1-generate after 0",
        "started i1-generate 3",
    ]


def test_after_all_retries_the_message_and_the_log_are_named(runs: Runs) -> None:
    run, _ = runs(["1"], retries=1)
    with pytest.raises(StepFailed, match=r"(?s)i1-generate failed 2 times, last: told to end with 1.*log\.txt"):
        run.run()


def test_a_killed_step_is_told_by_its_signal(runs: Runs) -> None:
    run, _ = runs(["kill"], retries=0)
    with pytest.raises(StepFailed, match="ended by SIGKILL"):
        run.run()


def test_a_step_that_dies_on_a_full_disk_was_stopped_by_it(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, recorder = runs(["kill"])
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(RunStopped, match="is on a disk that is full; make room"):
        run.run()
    assert recorder.told == ["started i1-generate 1"]


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"\xff", b"null"])
def test_a_broken_termination_message_is_as_none(tmp_path: Path, message: bytes) -> None:
    (tmp_path / "termination.json").write_bytes(message)
    (tmp_path / "log.txt").write_text("\x1b[31m(EngineActor pid=7) the last words\n")
    said = runner._end(tmp_path / "termination.json", 3, tmp_path / "log.txt")
    assert said == (3, "ended with exit code 3\nthe last words")


def test_a_wrong_configuration_is_never_tried_again(runs: Runs) -> None:
    run, recorder = runs(["64"])
    with pytest.raises(ConfigError, match="told to end with 64"):
        run.run()
    assert recorder.told == ["started i1-generate 1"]


def test_sigterm_stops_the_step_and_the_same_command_goes_on(runs: Runs, tmp_path: Path) -> None:
    run, _ = runs(["wait"])

    def interrupt() -> None:
        while not (tmp_path / "waiting-i1-generate").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(RunStopped):
        run.run()
    run, recorder = runs(["done"])
    run.run()
    assert recorder.told[0] == "started i1-generate 2"


def test_every_attempt_keeps_its_log(runs: Runs, tmp_path: Path) -> None:
    run, _ = runs(["1", "done"])
    run.run()
    attempts = sorted(path.relative_to(tmp_path / "attempts") for path in (tmp_path / "attempts").glob("*/*/log.txt"))
    assert [str(path.parent) for path in attempts] == ["i1-generate/1", "i1-generate/2", "i1-train/1"]


def test_a_finished_step_of_equal_digest_is_taken_from_another_run(runs: Runs, tmp_path: Path) -> None:
    """Another loss on the same pairs: generation is copied, training is done."""
    runs(["done"])[0].run()
    one = Folder.open(tmp_path.as_uri())
    folder = step_folder(one, 1, "i1-generate")
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, manifest.model_copy(update={"digest": PLAN.step_digest("i1-generate")}))
    folder.write("parts/pairs/1.parquet", b"pairs")
    folder.write("checkpoints/half", b"no result")

    other = tmp_path / "other"
    other.mkdir()
    (other / "script.json").write_text(json.dumps({"i1-generate": ["1"], "i1-train": ["done"]}))
    write_plan(Folder.open(other.as_uri()), PLAN)
    run, recorder = runs(["1"])
    file = RunFile(run={}, storage=other.as_uri(), means=MEANS, reuse_from=(tmp_path.as_uri(),))
    replace(run, file=file, work=other).run()
    assert recorder.told == ["found i1-generate", "started i1-train 1", "finished i1-train"]
    assert step_folder(Folder.open(other.as_uri()), 1, "i1-generate").files() == [
        "manifest.json",
        "parts/pairs/1.parquet",
    ]


def test_every_step_is_told_where_the_run_is_tracked(runs: Runs, tmp_path: Path) -> None:
    run, _ = runs(["done"])
    replace(run, tracking=Tracking(type="MLflow", url="http://mlflow:5000")).run()
    for step in PLAN.steps:
        assert (tmp_path / f"tracking-{step.name}").read_text() == "http://mlflow:5000"


# --- holdBefore ---------------------------------------------------------------------------------------------------------


def test_a_run_waits_before_a_step_until_it_is_let_begin(runs: Runs) -> None:
    run, recorder = runs(["done"])
    with pytest.raises(RunHeld, match="i1-train"):
        replace(run, hold_before="train").run()
    assert recorder.told == ["started i1-generate 1", "finished i1-generate"]
    again, recorder = runs(["done"])
    with pytest.raises(RunHeld):  # another step's name lets nothing begin
        replace(again, hold_before="train", proceed="i1-generate").run()
    replace(again, hold_before="train", proceed="i1-train").run()
    assert recorder.told[-1] == "finished i1-train"


def test_a_step_that_has_begun_is_held_no_more(runs: Runs) -> None:
    run, _ = runs(["done"], ["1"], retries=0)
    with pytest.raises(StepFailed):
        replace(run, hold_before="train", proceed="i1-train").run()
    again, recorder = runs(["done"], ["done"])
    replace(again, hold_before="train").run()
    assert recorder.told[-1] == "finished i1-train"
