"""The step contract: exit codes and termination messages, as a real process gives them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plans import plan_of, spin
from run_files import entry_arguments

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import Exit
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs import entry
from selfalign_jobs.entry import run_step
from selfalign_jobs.places.store import Folder, Manifest, step_folder, write_manifest, write_plan
from selfalign_jobs.step.context import StepContext, Stopped
from selfalign_jobs.step.ending import ending
from selfalign_jobs.step.progress import Progress

MEANS = Means(
    generation=GenerationMeans(device="CPU"),
    training=TrainingMeans(device="CPU"),
    evaluation=GenerationMeans(device="CPU"),
)


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    config = StepConfig(
        plan=plan_of("spin", spin()), step="i1-generate", attempt=1, storage=tmp_path.as_uri(), means=MEANS
    )
    return StepContext.of(config, Progress("i1-generate"), threading.Event())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError.one("spec.model.url", "is wrong"), Exit.CONFIG),
        (Stopped("saved"), Exit.STOPPED),
        (OSError(errno.ENOSPC, "No space left on device"), Exit.STOPPED),
        (OSError(errno.EIO, "Input/output error"), 1),
        (ValueError("a bug"), 1),
    ],
)
def test_how_a_step_ends_is_its_exit_code(
    context: StepContext, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(_: StepContext) -> Manifest:
        raise error

    monkeypatch.setattr(entry, "execute", fail)
    assert ending(lambda: run_step(context))[0] == code


MANIFEST = Manifest(
    step="i1-generate", kind="generate", digest="sha256:0", recipe="spin", version="0", attempt=1,
    started="", finished="", active_seconds=1.0, seed=0, result={"pairs": 3},
)  # fmt: skip


def enter(context: StepContext, folder: Path, *more: str) -> tuple[int, dict[str, object]]:
    """By the entry point that pods have, a real process: its exit code and termination message."""
    message = folder / "message"
    command = [sys.executable, "-m", "selfalign_jobs", *entry_arguments(context.config, folder)]
    ended = subprocess.run(
        [*command, "--termination-message", str(message), *more],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    return ended.returncode, json.loads(message.read_text())


def test_a_finished_step_ends_at_once_with_the_same_summary(tmp_path: Path, context: StepContext) -> None:
    write_manifest(context.folder, MANIFEST)
    assert enter(context, tmp_path) == (0, MANIFEST.summary())


def test_collect_gives_the_summary_of_a_finished_step(tmp_path: Path, context: StepContext) -> None:
    write_manifest(context.folder, MANIFEST)
    assert enter(context, tmp_path, "--collect") == (0, MANIFEST.summary())


def test_collect_starts_nothing_where_there_is_no_result(tmp_path: Path, context: StepContext) -> None:
    code, message = enter(context, tmp_path, "--collect")
    assert (code, message["reason"]) == (1, "ResultMissing")


def test_a_step_of_equal_digest_is_taken_from_another_run_and_says_so(tmp_path: Path, context: StepContext) -> None:
    plan = context.config.plan
    other = Folder.open((tmp_path / "other").as_uri())
    write_plan(other, plan)
    folder = step_folder(other, 1, "i1-generate")
    write_manifest(folder, MANIFEST.model_copy(update={"digest": plan.step_digest("i1-generate")}))
    folder.write("parts/pairs/1.parquet", b"pairs")
    folder.write("checkpoints/half", b"no result")
    context.config = context.config.model_copy(update={"reuse_from": (f"{tmp_path.as_uri()}/other",)})
    code, message = enter(context, tmp_path)
    assert (code, message["reused"], message["result"]) == (0, True, {"pairs": 3})
    assert context.folder.files() == ["manifest.json", "parts/pairs/1.parquet"]
    assert enter(context, tmp_path, "--collect") == (0, message)


def test_an_unexpected_error_leaves_a_termination_message(tmp_path: Path, context: StepContext) -> None:
    arguments = entry_arguments(context.config, tmp_path)
    (tmp_path / "run.json").write_text("{")
    assert entry.main([*arguments, "--termination-message", str(tmp_path / "message")]) == 1
    assert "Invalid JSON" in json.loads((tmp_path / "message").read_text())["error"]
