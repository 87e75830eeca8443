"""A checkpoint counts once its manifest is there, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign_jobs.places.store import Folder
from selfalign_jobs.train.checkpoint import Checkpoint, newest, prune, publish, published


def saved(tmp_path: Path, step: int) -> Path:
    """A folder as a trainer leaves it."""
    source = tmp_path / f"saved-{step}"
    (source / "deep").mkdir(parents=True)
    (source / "model.safetensors").write_text(f"weights {step}")
    (source / "deep" / "state.pt").write_text("state")
    return source


def checkpoint(step: int, attempt: int = 1) -> Checkpoint:
    """What is said of it."""
    return Checkpoint(attempt=attempt, step=step, ranks=1, zero_stage=None, seconds=1.5, files=())


def upload(folder: Folder, source: Path, saved: Checkpoint) -> None:
    """As the ranks do together."""
    folder.upload(source, saved.name)
    publish(folder, saved)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A step's folder."""
    return Folder.open((tmp_path / "step").as_uri())


def test_the_furthest_counts_and_of_equal_steps_the_later_attempts(tmp_path: Path, folder: Folder) -> None:
    assert newest(folder) is None
    for step, attempt in ((10, 1), (20, 1), (15, 2), (20, 2)):
        upload(folder, saved(tmp_path / f"{attempt}", step), checkpoint(step, attempt))
    assert newest(folder) == checkpoint(20, 2)
    assert folder.read("checkpoints/attempt-2/step-20/deep/state.pt") == b"state"


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_writer_killed_at_any_file_leaves_nothing_that_counts(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    upload(folder, saved(tmp_path, 1), checkpoint(1))
    write, written = Folder.write, 0

    def dying(self: Folder, name: str, content: bytes) -> None:
        nonlocal written
        if written == after:
            raise Killed
        written += 1
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", dying)
        with pytest.raises(Killed):
            upload(folder, saved(tmp_path, 2), checkpoint(2))
    assert newest(folder) == checkpoint(1)


def test_pruning_keeps_the_furthest_and_removes_what_was_left_half_written(tmp_path: Path, folder: Folder) -> None:
    for step in (1, 2, 3):
        upload(folder, saved(tmp_path, step), checkpoint(step))
    folder.write("checkpoints/attempt-1/step-9/model.safetensors", b"half")
    prune(folder, keep=2)
    assert published(folder) == [checkpoint(3), checkpoint(2)]
    assert {name.split("/")[2] for name in folder.files("checkpoints")} == {"step-3", "step-2"}
