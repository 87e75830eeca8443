"""The reference's log-probabilities: an artefact, computed once by the trainer's own forward before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from selfalign_jobs.places.store import Folder
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train.dataset import TokenIds, lengths_of
from selfalign_jobs.train.job import REFERENCE
from selfalign_jobs.train.loader import Collate
from selfalign_jobs.train.saving import agreed
from selfalign_jobs.train.scoring import answer_scores
from selfalign_jobs.train.steps import Layout, plan_step


def read(folder: Folder, examples: pa.Table, kernel: str) -> np.ndarray | None:
    """Kept log-probabilities of just these examples by this kernel, float64 (examples, answers); None before they are computed."""
    if not folder.exists(REFERENCE):
        return None
    table = folder.read_table(REFERENCE)
    if (table.schema.metadata or {}).get(b"identity") != _identity(examples, kernel):
        return None
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def write(folder: Folder, examples: pa.Table, kernel: str, log_probs: np.ndarray) -> None:
    """Commit them, with the identity of the examples that they belong to and of what computed them."""
    names = [name.removesuffix("_ids") for name in examples.column_names[1:]]
    columns = {name: log_probs[:, column] for column, name in enumerate(names)}
    folder.write_table(REFERENCE, pa.table(columns).replace_schema_metadata({"identity": _identity(examples, kernel)}))


def compute(
    model: Any,
    examples: pa.Table,
    *,
    collate: Collate,
    budget: int,
    layout: Layout,
    device: torch.device,
    ranks: int,
    rank: int,
    stop_asked: Callable[[], bool],
    on_progress: Callable[[int], None],
) -> np.ndarray:
    """Log-probabilities of each answer, float64 of shape (examples, answers), the same on all ranks.

    The ranks share the micro batches; each runs as many, for a sharded model is gathered by all of them together.
    Raises Stopped when a stop was asked for.
    """
    ids, lengths = TokenIds(examples), lengths_of(examples)
    found = np.zeros((len(lengths), lengths.shape[1] - 1))
    plan = plan_step(lengths, ranks, budget, layout)
    for number, rows in enumerate(plan[rank], 1):
        micro = collate([ids[int(row)] for row in rows], rows).to(device)
        found[rows] = answer_scores(model, micro).double().cpu().numpy()
        on_progress(sum(len(held) for mine in plan for held in mine[:number]))
        if any(agreed(stop_asked())):
            raise Stopped(
                "stopped while the reference's log-probabilities were computed; the next attempt begins there"
            )
    return _joined(found, np.concatenate(plan[rank]), ranks)


def _joined(found: np.ndarray, mine: np.ndarray, ranks: int) -> np.ndarray:
    if ranks == 1:
        return found
    parts: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(parts, (mine, found[mine]))
    for rows, values in parts:
        found[rows] = values
    return found


def _identity(examples: pa.Table, kernel: str) -> bytes:
    """Of ids, and of layout, attention and precision: with others the policy would not begin as its reference."""
    digest = hashlib.sha256(kernel.encode())
    for name in examples.column_names:
        digest.update(lengths_of(examples.select([name])).tobytes())
        for chunk in examples[name].chunks:
            digest.update(np.ascontiguousarray(chunk.flatten().to_numpy()).data)
    return digest.hexdigest().encode()
