"""Checkpoints in the store: `checkpoints/attempt-A/step-N/`, each with a manifest published last. Without it none counts."""

from __future__ import annotations

from pathlib import Path

from selfalign_api.plan_values import Frozen
from selfalign_jobs.places.store import Folder, read_json
from selfalign_jobs.train.settings import Shape

FOLDER = "checkpoints"
MANIFEST = "checkpoint.json"


class Checkpoint(Frozen):
    """A checkpoint that counts: what a resume must know before it loads it."""

    attempt: int
    step: int
    ranks: int
    zero_stage: int | None  # None: written without DeepSpeed
    offloaded: bool = False  # whether the optimiser was
    seconds: float  # of training so far, over all attempts
    files: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """What it was saved by."""
        return Shape(ranks=self.ranks, zero_stage=self.zero_stage, offloaded=self.offloaded)

    @property
    def name(self) -> str:
        """Its folder, relative to the step's."""
        return f"{FOLDER}/attempt-{self.attempt}/step-{self.step}"


def publish(folder: Folder, checkpoint: Checkpoint) -> None:
    """Commit the manifest of a checkpoint whose files are all in the store: from here on it counts."""
    folder.write(f"{checkpoint.name}/{MANIFEST}", checkpoint.model_dump_json(indent=1).encode())


def published(folder: Folder) -> list[Checkpoint]:
    """All checkpoints that count, furthest first; of equal steps the later attempt's."""
    names = [name for name in folder.files(FOLDER) if name.endswith(f"/{MANIFEST}")]
    mend = "put it back from a copy, or delete its folder to go on from another"
    found = [read_json(folder, name, Checkpoint, mend) for name in names]
    return sorted(found, key=lambda checkpoint: (checkpoint.step, checkpoint.attempt), reverse=True)


def newest(folder: Folder) -> Checkpoint | None:
    """The checkpoint to resume from."""
    return next(iter(published(folder)), None)


def prune(folder: Folder, keep: int) -> None:
    """Delete all but the furthest `keep` checkpoints, and whatever killed attempts left half written."""
    counted = published(folder)
    for checkpoint in counted[keep:]:
        folder.delete(f"{checkpoint.name}/{MANIFEST}")  # first of all it no longer counts
        folder.delete(checkpoint.name)
    kept = {checkpoint.name for checkpoint in counted[:keep]}
    parts = {"/".join(name.split("/")[:3]) for name in folder.files(FOLDER)}
    for name in parts - kept:
        folder.delete(name)


def fetch(folder: Folder, checkpoint: Checkpoint, work: Path) -> Path:
    """The checkpoint as a folder on this machine. Raises RuntimeError when a file of it is missing."""
    found = folder.download(checkpoint.name, work / f"resume-{checkpoint.step}")
    if missing := [name for name in checkpoint.files if not (found / name).exists()]:
        raise RuntimeError(
            f"{checkpoint.name} lacks {', '.join(missing[:5])}; delete that folder to go on from another"
        )
    return found
