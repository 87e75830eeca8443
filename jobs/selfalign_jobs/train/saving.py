"""When a training saves and when it stops: decided and done together by all ranks, at the end of an optimiser step."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from selfalign_jobs.places.store import Folder
from selfalign_jobs.train.checkpoint import Checkpoint, prune, publish
from selfalign_jobs.train.settings import Shape

T = TypeVar("T")
POLL_SECONDS = 0.1


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


def awaited(act: Callable[[], T]) -> Future[T]:
    """What became of `act` on this rank, once all ranks are through with theirs.

    However long a download takes: the ranks ask one another again and again, and none waits inside a collective.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="awaited") as beside:
        mine = beside.submit(act)
        while any(agreed(not mine.done())):
            time.sleep(POLL_SECONDS)
    return mine


class Upload:
    """A node's share of a checkpoint on its way to the store, beside the training."""

    def __init__(self, folder: Folder, local: Path, name: str) -> None:
        """Begin to upload the files of `local` to the folder `name`; they are gone from here then."""
        self.files: tuple[str, ...] = ()
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run, args=(folder, local, name), name="upload", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    def _run(self, folder: Folder, local: Path, name: str) -> None:
        try:
            folder.upload(local, name)
            self.files = tuple(file.relative_to(local).as_posix() for file in local.rglob("*") if file.is_file())
            shutil.rmtree(local)
        except OSError as error:
            self.error = error


class Saving(TrainerCallback):
    """Saves by the clock of rank 0 and when a stop is asked for, publishes what was saved, and ends a stopped training.

    Uploads run beside the training and inside no collective; at the end of a step the ranks agree whether all are through.
    """

    def __init__(
        self,
        *,
        stop: threading.Event,
        folder: Folder,
        attempt: int,
        shape: Shape,
        interval_seconds: float,
        keep: int,
        on_begin: Callable[[], None],
    ) -> None:
        """`stop` is set by this rank's SIGTERM; `folder` is the step's; `on_begin` is called when the first step begins."""
        self._stop, self._folder, self._attempt = stop, folder, attempt
        self._shape, self._interval, self._keep = shape, interval_seconds, keep
        self._on_begin = on_begin
        self._saved = time.monotonic()
        self._pending: Checkpoint | None = None  # written, and not published yet
        self._upload: Upload | None = None  # of this node's files, by its first rank
        self.stopped_at: int | None = None  # the step at which the training was stopped, saved and published

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The interval counts from here."""
        self._on_begin()
        self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """All ranks take the same decision at the same step; only rank 0's clock speaks."""
        due = args.process_index == 0 and time.monotonic() - self._saved >= self._interval
        stop, due, uploading = agreed(self._stop.is_set(), due, self._uploading)
        if self._pending is not None and (stop or not uploading):
            self._publish()
        if stop:
            self.stopped_at = state.global_step
            control.should_training_stop = True
        control.should_save = stop or (due and self._pending is None)
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Every rank has written its share: each node begins to upload what lies on it."""
        local = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._pending = Checkpoint(
            attempt=self._attempt,
            step=state.global_step,
            seconds=state.log_history[-1]["seconds"],
            **self._shape.model_dump(),
        )
        _barrier()  # the other ranks of this node have written theirs
        self._upload = Upload(self._folder, local, self._pending.name) if args.local_process_index == 0 else None
        self._saved = time.monotonic()
        if self.stopped_at is not None:
            self._publish()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """What is under way is brought to its end."""
        if self._pending is not None:
            self._publish()

    @property
    def _uploading(self) -> bool:
        return self._upload is not None and self._upload.running

    def _publish(self) -> None:
        """Once every node has uploaded its files, rank 0 says that the checkpoint counts."""
        assert self._pending is not None
        while any(agreed(self._uploading)):  # short collectives, however long it takes
            time.sleep(POLL_SECONDS)
        uploaded = together(self._uploaded)
        files = tuple(sorted({name for names in uploaded for name in names}))
        checkpoint = self._pending.model_copy(update={"files": files})
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        together(awaited(lambda: self._count(checkpoint) if first else None).result)
        self._pending = self._upload = None

    def _uploaded(self) -> tuple[str, ...]:
        """The names of this node's files, which are in the store; nodes have no file in common."""
        if self._upload is None:
            return ()
        if self._upload.error is not None:
            raise self._upload.error
        return self._upload.files

    def _count(self, checkpoint: Checkpoint) -> None:
        publish(self._folder, checkpoint)
        prune(self._folder, self._keep)


def _barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
