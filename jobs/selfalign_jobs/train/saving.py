"""When a training saves and when it stops: decided and done together by all ranks, at the end of an optimiser step."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfalign_jobs.places.store import Folder
from selfalign_jobs.train.checkpoint import Checkpoint, prune, publish

T = TypeVar("T")


def agreed(*wishes: bool) -> tuple[bool, ...]:
    """What any rank wishes, the same on every rank: one all-reduce (maximum) over all the wishes."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return wishes
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    votes = torch.tensor([float(wish) for wish in wishes], device=device)
    torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
    return tuple(vote > 0 for vote in votes.tolist())


def together(act: Callable[[], T]) -> list[T]:
    """What `act` gives on each rank, by rank, once all are through with it.

    Raises OSError on all of them when one has: none waits for a rank that has failed.
    """
    mine: tuple[Any, OSError | None]
    try:
        mine = act(), None
    except OSError as error:
        mine = None, error
    found: list[Any] = [mine]
    if torch.distributed.is_initialized():
        found = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, mine)
    failed = mine[1] or next((error for _, error in found if error is not None), None)
    if failed is not None:
        raise failed
    return [value for value, _ in found]


class Saving(TrainerCallback):
    """Saves by the clock of rank 0 and when a stop is asked for, publishes what was saved, and ends a stopped training."""

    def __init__(
        self,
        *,
        stop: threading.Event,
        folder: Folder,
        attempt: int,
        zero_stage: int | None,
        interval_seconds: float,
        keep: int,
        on_begin: Callable[[], None],
    ) -> None:
        """`stop` is set by this rank's SIGTERM; `folder` is the step's; `on_begin` is called when the first step begins."""
        self._stop, self._folder, self._attempt = stop, folder, attempt
        self._zero_stage, self._interval, self._keep = zero_stage, interval_seconds, keep
        self._on_begin = on_begin
        self._saved = time.monotonic()
        self.stopped_at: int | None = None  # the step at which the training was stopped, saved and published

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The interval counts from here."""
        self._saved = time.monotonic()
        self._on_begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """All ranks take the same decision at the same step; only rank 0's clock speaks."""
        due = args.process_index == 0 and time.monotonic() - self._saved >= self._interval
        stop, save = agreed(self._stop.is_set(), due)
        if stop:
            self.stopped_at = state.global_step
            control.should_training_stop = True
        control.should_save = stop or save
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Every rank has written its share: each node uploads what lies on it, then rank 0 publishes."""
        local = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        checkpoint = Checkpoint(
            attempt=self._attempt,
            step=state.global_step,
            ranks=args.world_size,
            zero_stage=self._zero_stage,
            seconds=state.log_history[-1]["seconds"],
        )
        _barrier()  # the other ranks of this node have written theirs
        uploaded = together(lambda: self._upload(local, checkpoint) if args.local_process_index == 0 else ())
        files = tuple(sorted({name for names in uploaded for name in names}))
        together(lambda: self._publish(checkpoint, files) if args.process_index == 0 else None)
        self._saved = time.monotonic()

    def _upload(self, local: Path, checkpoint: Checkpoint) -> tuple[str, ...]:
        """The names of this node's files, which are in the store then; nodes have no file in common."""
        self._folder.upload(local, checkpoint.name)
        names = tuple(file.relative_to(local).as_posix() for file in local.rglob("*") if file.is_file())
        shutil.rmtree(local)
        return names

    def _publish(self, checkpoint: Checkpoint, files: tuple[str, ...]) -> None:
        publish(self._folder, checkpoint.model_copy(update={"files": files}))
        prune(self._folder, self._keep)


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
