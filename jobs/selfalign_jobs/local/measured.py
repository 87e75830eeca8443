"""What was measured of a run, its beginning, or one like it: rows that were kept, tokens a record, tokens a second."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np
import pyarrow as pa

from selfalign_api.plan import ArtifactRef, Evaluate, Generate, Plan, Prepare, TableRef, Train
from selfalign_api.run_file import Means
from selfalign_jobs.accept.foreseen import rows_made
from selfalign_jobs.generate.parts import tokens_of
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, step_folder
from selfalign_jobs.recipes.tables import learned_from
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.train.dataset import lengths_of
from selfalign_jobs.train.settings import Reads
from selfalign_jobs.train.steps import passes

T = TypeVar("T")
WEIGHTS = ("model/", "checkpoints/", "work/")  # of a training's folder: no tables
Key = tuple[str, str]  # a step and a table of it; of a training: "", what it learns from


@dataclass(frozen=True)
class Table:
    """What became of the records of a table, and the tokens that they took, by role."""

    flow: str
    records: int
    kept: int  # of them, those that ended with rows
    tokens: Mapping[str, tuple[int, int]]  # read, written
    scores: bool = False  # by a model that writes nothing
    rows: pa.Table | None = None  # some of its rows, where a training may read their ids


@dataclass(frozen=True)
class Speed:
    """How fast a step was: what grows with its tokens, and what does not (engines that start, weights that load and are saved)."""

    seconds: float  # that a GPU, or the machine where there are none, takes for a token, read, written or trained on
    fixed: float


@dataclass(frozen=True)
class Measured:
    """By step and table. What a step of another iteration was measured at holds for those of its name, the newest first."""

    tables: Mapping[Key, Table] = field(default_factory=dict)
    made: Mapping[Key, float] = field(default_factory=dict)  # rows that were prepared, of those that could be
    row_tokens: Mapping[str, float] = field(default_factory=dict)  # by training: tokens of a row, each time it is seen
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    stored: Mapping[str, float] = field(default_factory=dict)  # bytes of its tables for a token that it works on

    def over(self, other: Measured) -> Measured:
        """What was measured here or, where it was not, in another place."""
        names = (each.name for each in fields(self))
        return Measured(**{name: {**getattr(other, name), **getattr(self, name)} for name in names})


def same_step(step: str) -> str:
    """A step's name without its iteration."""
    return re.sub(r"^i\d+-", "", step)


def of_loads(plan: Plan, step: Generate | Evaluate, folder: Folder, manifest: Manifest) -> dict[Key, Table]:
    """The tables of a finished step of engine loads."""
    found: dict[Key, Table] = {}
    for model, job in ((load.model, job) for load in step.loads for job in load.jobs):
        parts = manifest.tables[job.out].parts
        tokens = {role: (read, written) for role, (read, written) in tokens_of(folder, parts).items()}
        records, outcomes = manifest.result["records"][job.out], manifest.result["outcomes"][job.out]
        rows = first_with_rows(folder, parts)
        scores = plan.kind_of(model) != "Causal"
        found[step.name, job.out] = Table(job.flow, records, outcomes.get("rows", 0), tokens, scores, rows)
    return found


def first_with_rows(folder: Folder, parts: Sequence[str]) -> pa.Table | None:
    """The first part in which a record ended with rows; None where none did."""
    tables = (folder.read_table(part) for part in parts)
    return next((table for table in tables if rows_of(table).num_rows), None)


def of_run(plan: Plan, run: Folder, means: Means | None) -> Measured:
    """All finished steps of a run; `means` is what it ran on, where that is known: without it nothing is said of time."""
    tables, made, row_tokens = dict[Key, Table](), dict[Key, float](), dict[str, float]()
    speeds, stored = dict[str, Speed](), dict[str, float]()
    for step in plan.steps:
        folder = step_folder(run, step.iteration, step.name)
        manifest = read_manifest(folder)
        if manifest is None or not {"pairs", "outcomes"} & manifest.result.keys():  # of an older version, or a copy
            continue
        tokens: float = sum(manifest.tokens.values())
        if isinstance(step, Generate | Evaluate):
            tables |= of_loads(plan, step, folder, manifest)
            jobs = [job for load in step.loads for job in load.jobs]
            shares = {job.out: share_made(plan, job.rows, manifest.result["records"][job.out], tables) for job in jobs}
            made |= {(step.name, out): share for out, share in shares.items() if share is not None}
        elif isinstance(step, Train):
            rows = manifest.result["pairs"]
            row_tokens[step.name] = tokens / sum(passes(rows, step.settings.epochs))
            tokens = row_tokens[step.name] * rows  # as often as they stand in its table
            if (share := share_made(plan, step.data, rows, tables)) is not None:
                made[step.name, ""] = share
        if tokens:
            stored[step.name] = folder.size(name for name in folder.files() if not name.startswith(WEIGHTS)) / tokens
        if means is not None and (speed := _speed(step, manifest, means)) is not None:
            speeds[step.name] = speed
    return Measured(tables, made, row_tokens, speeds, stored)


def share_made(plan: Plan, prepare: Prepare, rows: int, tables: Mapping[Key, Table]) -> float | None:
    """Rows that were prepared, of those foreseen for the records that were kept; None where that is not known: of sources."""

    def kept(ref: TableRef) -> int:
        assert isinstance(ref, ArtifactRef)
        return tables[ref.step, ref.name].kept

    refs = learned_from(prepare)
    if not all(isinstance(ref, ArtifactRef) and (ref.step, ref.name) in tables for ref in refs):
        return None
    foreseen = rows_made(plan, prepare, kept)
    return rows / foreseen if foreseen else None


def _speed(step: object, manifest: Manifest, means: Means) -> Speed | None:
    seconds: dict[str, float] = manifest.result.get("seconds", {})
    if isinstance(step, Train):
        growing = sum(took for phase, took in seconds.items() if phase in ("train", "reference"))
    else:
        growing = seconds.get("generate", 0.0)
    tokens = sum(manifest.tokens.values())
    if not tokens or not growing:
        return None
    return Speed(growing * max(1, gpus_of(step, means)) / tokens, sum(seconds.values()) - growing)


def gpus_of(step: object, means: Means) -> int:
    """GPUs that a step holds; 0 on a CPU, and of one that only copies."""
    if isinstance(step, Train):
        return means.training.nodes * means.training.gpus_per_node if means.training.device == "GPU" else 0
    if isinstance(step, Generate | Evaluate):
        return (means.generation if isinstance(step, Generate) else means.evaluation).most_gpus
    return 0


def tokens_of_row(step: Train, rows: pa.Table) -> float:
    """Tokens of a row that a training sees: each answer with its prompt. Rows beyond the bounds of the settings have none."""
    reads, settings = Reads.of(step.loss.type), step.settings
    lengths = lengths_of(rows.select(reads.columns))
    prompts, answers = lengths[:, :1], lengths[:, 1:]
    whole = np.where(answers > 0, prompts + answers, 0)
    if settings.overlong == "Drop":
        fits = (prompts[:, 0] <= settings.max_prompt_tokens) & (whole.max(axis=1) <= settings.max_length_tokens)
        whole = whole * fits[:, None]
    return float(np.minimum(whole, settings.max_length_tokens).sum(axis=1).mean())
