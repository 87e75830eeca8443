"""Checkpoints go to the store beside the training: steps go on meanwhile, and one counts only when all of it is there."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl

from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.places.store import Folder
from selfalign_jobs.train.checkpoint import published
from selfalign_jobs.train.saving import Saving
from selfalign_jobs.train.settings import shape_of

ONE_RANK = shape_of(TrainingMeans(device="CPU"), None)


class SlowFolder(Folder):
    """A store whose uploads wait, or fail."""

    gate: threading.Event
    error: OSError | None

    def upload(self, source: Path, name: str) -> None:
        self.gate.wait()
        if self.error is not None:
            raise self.error
        super().upload(source, name)


class Training:
    """One rank's trainer as its callback sees it: saves when it is told to."""

    def __init__(self, folder: Path, interval: float = 0, error: OSError | None = None) -> None:
        store = Folder.open((folder / "store").as_uri())
        (folder / "store" / "checkpoints").mkdir(parents=True)  # pyarrow lists no folder that is made meanwhile
        self.store = SlowFolder(store.filesystem, store.path)
        object.__setattr__(self.store, "gate", threading.Event())
        object.__setattr__(self.store, "error", error)
        self.stop = threading.Event()
        self.output = folder / "output"
        self.saving = Saving(
            stop=self.stop, folder=self.store, attempt=1, shape=ONE_RANK, interval_seconds=interval, keep=1,
            on_begin=lambda: None,
        )  # fmt: skip
        self.arguments: Any = SimpleNamespace(
            process_index=0, local_process_index=0, world_size=1, output_dir=str(self.output)
        )
        self.step = 0
        self.saving.on_train_begin()

    def take_step(self) -> bool:
        """A step; whether a checkpoint was written after it."""
        self.step += 1
        state: Any = SimpleNamespace(global_step=self.step, log_history=[{"seconds": 1.0}])
        control = self.saving.on_step_end(self.arguments, state, TrainerControl())
        if control.should_save:
            written = self.output / f"checkpoint-{self.step}"
            written.mkdir(parents=True)
            (written / "weights").write_bytes(b"w")
            self.saving.on_save(self.arguments, state)
        return control.should_save

    def counted(self) -> list[int]:
        return [checkpoint.step for checkpoint in published(self.store)]


def test_steps_go_on_while_a_checkpoint_is_uploaded_and_it_counts_once_it_is_there(tmp_path: Path) -> None:
    training = Training(tmp_path)
    assert [training.take_step() for _ in range(3)] == [True, False, False]
    assert training.counted() == []
    training.store.gate.set()
    while training.counted() != [1]:
        training.take_step()
    (first,) = [checkpoint for checkpoint in published(training.store) if checkpoint.step == 1]
    assert first.files == ("weights",)


def test_a_stop_waits_until_what_it_saves_counts(tmp_path: Path) -> None:
    training = Training(tmp_path, interval=1e9)
    training.store.gate.set()
    training.take_step()
    training.stop.set()
    assert training.take_step()
    assert training.counted() == [2]
    assert training.saving.stopped_at == 2


def test_what_is_under_way_is_published_at_the_end(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.take_step()
    training.store.gate.set()
    training.saving.on_train_end()
    assert training.counted() == [1]


def test_an_upload_that_fails_ends_the_training_with_its_error(tmp_path: Path) -> None:
    training = Training(tmp_path, error=OSError(28, "No space left on device"))
    training.take_step()
    training.store.gate.set()
    with pytest.raises(OSError, match="No space left"):
        training.saving.on_train_end()
    assert training.counted() == []
