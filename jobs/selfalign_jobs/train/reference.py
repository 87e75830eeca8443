"""The reference's log-probabilities: an artefact, computed once by the trainer's own forward before the policy is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from selfalign_jobs.places.store import Folder
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train.batch import PairCollator, response_log_probs
from selfalign_jobs.train.dataset import ID_COLUMNS, lengths, sizes_of
from selfalign_jobs.train.saving import agreed

ARTIFACT = "reference/log_probs.parquet"
COLUMNS = ("chosen", "rejected")


def read(folder: Folder, examples: pa.Table) -> np.ndarray | None:
    """Kept log-probabilities of just these examples, float64 of shape (examples, 2); None before they are computed."""
    if not folder.exists(ARTIFACT):
        return None
    table = folder.read_table(ARTIFACT)
    if (table.schema.metadata or {}).get(b"examples") != _identity(examples):
        return None
    return np.stack([table[name].to_numpy() for name in COLUMNS], axis=1)


def write(folder: Folder, examples: pa.Table, log_probs: np.ndarray) -> None:
    """Commit them, with the identity of the examples that they belong to."""
    columns = {name: log_probs[:, column] for column, name in enumerate(COLUMNS)}
    folder.write_table(ARTIFACT, pa.table(columns).replace_schema_metadata({"examples": _identity(examples)}))


def compute(
    model: Any,
    examples: pa.Table,
    *,
    micro_batch: int,
    pad_id: int,
    device: str,
    ranks: int,
    rank: int,
    stop_asked: Callable[[], bool],
    on_progress: Callable[[int], None],
) -> np.ndarray:
    """Log-probabilities of chosen and rejected, float64 of shape (examples, 2), the same on all ranks.

    The ranks share the batches; each runs as many, for a sharded model is gathered by all of them together.
    Raises Stopped when a stop was asked for.
    """
    collate = PairCollator(pad_id)
    found = np.zeros((examples.num_rows, 2))
    batches = _batches(examples, micro_batch, ranks)
    for number, row in enumerate(batches):
        indices = row[rank]
        records = examples.take(pa.array(indices)).to_pylist()
        inputs = collate([record | {"pair": int(index)} for record, index in zip(records, indices, strict=True)])
        summed, _ = response_log_probs(model, {k: v.to(device) for k, v in inputs.items()})
        for column, part in enumerate(summed.double().cpu().chunk(2)):
            found[indices, column] = part.numpy()
        on_progress(min(examples.num_rows, (number + 1) * micro_batch * ranks))
        if any(agreed(stop_asked())):
            raise Stopped(
                "stopped while the reference's log-probabilities were computed; the next attempt begins there"
            )
    return _joined(found, [row for batch in batches for row in batch[rank : rank + 1]], ranks)


def _batches(examples: pa.Table, micro_batch: int, ranks: int) -> list[list[np.ndarray]]:
    """Rows of pairs, by length so that little is padding; [batch][rank], the last ones filled up from the first."""
    by_length = np.argsort(-sizes_of(examples), kind="stable")
    batches = [by_length[start : start + micro_batch] for start in range(0, len(by_length), micro_batch)]
    while len(batches) % ranks:
        batches.append(batches[0])
    return [batches[start : start + ranks] for start in range(0, len(batches), ranks)]


def _joined(found: np.ndarray, own: list[np.ndarray], ranks: int) -> np.ndarray:
    if ranks == 1:
        return found
    parts: list[Any] = [None] * ranks
    mine = np.unique(np.concatenate(own))
    torch.distributed.all_gather_object(parts, (mine, found[mine]))
    for indices, values in parts:
        found[indices] = values
    return found


def _identity(examples: pa.Table) -> bytes:
    digest = hashlib.sha256()
    for name in ID_COLUMNS:
        digest.update(lengths(examples, name).tobytes())
        digest.update(np.concatenate([chunk.flatten().to_numpy() for chunk in examples[name].chunks]).tobytes())
    return digest.hexdigest().encode()
