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
from hypothesis import given
from hypothesis import strategies as st
from plans import plan_of, spin

from selfalign_api.errors import ConfigError
from selfalign_api.outcome import TERMINATION_MESSAGE_BYTES, Exit
from selfalign_api.plan import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs import step as contract
from selfalign_jobs.progress import Progress
from selfalign_jobs.step import StepContext, Stopped, run_step, termination_message
from selfalign_jobs.store import Folder, Manifest, step_folder, write_manifest

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
    run = Folder.open(config.storage)
    return StepContext(config, run, step_folder(run, 1, "i1-generate"), Progress("i1-generate"), threading.Event())


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

    monkeypatch.setattr(contract, "execute", fail)
    assert run_step(context)[0] == code


def test_a_finished_step_ends_at_once_with_the_same_summary(tmp_path: Path, context: StepContext) -> None:
    """By the entry point that pods have: a real process, with nothing to load."""
    manifest = Manifest(
        step="i1-generate", kind="generate", digest="sha256:0", recipe="spin", version="0", attempt=1,
        started="", finished="", active_seconds=1.0, seed=0, result={"pairs": 3},
    )  # fmt: skip
    write_manifest(context.folder, manifest)
    (tmp_path / "config.json").write_text(context.config.model_dump_json())
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "selfalign_jobs",
            tmp_path / "config.json",
            "--termination-message",
            tmp_path / "message",
        ],
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert ended.returncode == 0
    assert json.loads((tmp_path / "message").read_text()) == manifest.summary()


@given(st.dictionaries(st.sampled_from(["error", "stopped", "step"]), st.text(max_size=20_000)))
def test_a_termination_message_fits_and_is_json(message: dict[str, str]) -> None:
    body = termination_message(message)
    assert len(body) <= TERMINATION_MESSAGE_BYTES
    assert set(json.loads(body)) == set(message)
