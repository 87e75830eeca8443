"""What a run has left in its folder, read for the report: manifests, tables, owner; finished or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from selfalign_api.plan import ArtifactRef, Evaluate, Generate, Json, Judge, Plan, Train
from selfalign_jobs.accept.owner import OWNER, Owner, read_owner
from selfalign_jobs.places.store import Folder, Manifest, TableEntry, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.recipes.base import Step
from selfalign_jobs.recipes.tables import counts_of
from selfalign_jobs.step.pair_figures import counted

PAIRS = "pairs"  # the table of a generate step that preference training reads (recipes/rows.py)
TRAINED = "pairs"  # the prepared table of a train step
REST = "around it"  # what a step took beside its phases: starting and closing Ray, preparing, publishing
LOG = "log"  # the table of a train step: a row an optimiser step


@dataclass(frozen=True)
class StepFacts:
    """A step of the plan with its manifest, None until it is done."""

    step: Step
    manifest: Manifest | None

    @property
    def phases(self) -> dict[str, float]:
        """Seconds by phase in words, and what else the attempt that finished took; empty before it is done.

        A step's figures have `seconds` by phase, in the API's spelling (engineStart, generate; start, load, train, export).
        """
        if self.manifest is None:
            return {}
        told = {_words(phase): float(seconds) for phase, seconds in self.manifest.result["seconds"].items()}
        whole = datetime.fromisoformat(self.manifest.finished) - datetime.fromisoformat(self.manifest.started)
        rest = whole.total_seconds() - sum(told.values())
        return told | ({REST: round(rest, 3)} if rest > 0.05 else {})

    @property
    def notes(self) -> tuple[str, ...]:
        """What it told of itself that deserves a second look."""
        return () if self.manifest is None else tuple(self.manifest.result.get("notes", ()))

    @property
    def seconds(self) -> float:
        """All that its phases took, over all attempts whose work counts."""
        return sum(self.phases.values())

    @property
    def tokens_made(self) -> int:
        """Tokens that a generation made, or that a training read."""
        counts = {} if self.manifest is None else self.manifest.tokens
        return sum(number for name, number in counts.items() if not name.endswith(".in"))

    @property
    def tokens_per_second(self) -> float | None:
        """Its tokens a second at work, start-up not counted; None where it counts no tokens."""
        if self.manifest is None or not self.tokens_made or not self.manifest.active_seconds:
            return None
        return round(self.tokens_made / self.manifest.active_seconds, 1)


@dataclass(frozen=True)
class Iteration:
    """What one iteration made. A table is None until something of it is durable."""

    number: int
    steps: tuple[StepFacts, ...]
    pairs: pa.Table | None  # with the ledger's columns: also the records that ended without a pair
    drawn: int  # rows that go in, as far as they are drawn
    judge: Judge | None
    left_out: dict[str, int]  # why pairs were not trained on, and how many
    log: pa.Table | None

    @property
    def results(self) -> dict[str, Json]:
        """The figures of its evaluation, by name; empty before it is done."""
        for facts in self.steps:
            if isinstance(facts.step, Evaluate) and facts.manifest is not None:
                found: dict[str, Json] = facts.manifest.result["checks"]
                return found
        return {}

    @property
    def reads_own_pairs(self) -> bool:
        """Whether its training reads the pairs of this iteration and of no other."""
        if self.train is None or not isinstance(self.train.step, Train):
            return False
        read = [ref.step for ref in self.train.step.data.inputs if isinstance(ref, ArtifactRef) and ref.name == PAIRS]
        own = [facts.step.name for facts in self.steps if isinstance(facts.step, Generate)]
        return len(read) == 1 and read[0] in own

    @property
    def train(self) -> StepFacts | None:
        """Its training, where it has one."""
        return next((facts for facts in self.steps if isinstance(facts.step, Train)), None)


@dataclass(frozen=True)
class Evidence:
    """A run as its folder shows it."""

    plan: Plan
    owner: Owner | None
    iterations: tuple[Iteration, ...]

    @property
    def steps(self) -> tuple[StepFacts, ...]:
        """All steps in the order of the plan."""
        return tuple(facts for iteration in self.iterations for facts in iteration.steps)

    @property
    def finished(self) -> bool:
        """Whether every step has its manifest."""
        return all(facts.manifest is not None for facts in self.steps)


def read_evidence(run: Folder, plan: Plan) -> Evidence:
    """Read a run's folder. Follows manifests where a step is done, else the parts that are committed."""
    owner = read_owner(run) if run.exists(OWNER) else None
    numbers = sorted({step.iteration for step in plan.steps})
    return Evidence(plan, owner, tuple(_iteration(run, plan, number) for number in numbers))


def _iteration(run: Folder, plan: Plan, number: int) -> Iteration:
    steps = tuple(
        StepFacts(step, read_manifest(step_folder(run, number, step.name)))
        for step in plan.steps
        if step.iteration == number
    )
    pairs, drawn, judge, log = None, 0, None, None
    left_out: dict[str, int] = {}
    for facts in steps:
        folder = step_folder(run, number, facts.step.name)
        if isinstance(facts.step, Generate):
            for job in facts.step.load.jobs:
                if job.out == PAIRS:
                    pairs, judge = _pairs(folder, _entry(folder, facts.manifest, PAIRS)), job.judge
                    drawn = _prepared_rows(folder, PAIRS)
        elif isinstance(facts.step, Train):
            entry = _entry(folder, facts.manifest, LOG)
            log = None if entry is None else read_parts(folder, entry)
            left_out = _left_out(folder, facts.manifest)
    return Iteration(number, steps, pairs, drawn, judge, left_out, log)


def _prepared_rows(folder: Folder, name: str) -> int:
    """Rows of a prepared table; 0 before it is there."""
    kept = f"prepared/{name}.parquet"
    return folder.read_table(kept, columns=[]).num_rows if folder.exists(kept) else 0


def _left_out(folder: Folder, manifest: Manifest | None) -> dict[str, int]:
    """Pairs that training did not read, by reason; empty before it is done."""
    if manifest is None:
        return {}
    counts = counts_of(folder.read_table(f"prepared/{TRAINED}.parquet", columns=[]))
    found = {
        "prompt is held out for evaluation": counts["promptHeldOut"],
        "longer than the training's bounds": manifest.result["droppedOverlong"],
    }
    return {reason: number for reason, number in found.items() if number}


def _words(phase: str) -> str:
    """`engineStart` as `engine start`."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: " " + found[1].lower(), phase)


def _entry(folder: Folder, manifest: Manifest | None, name: str) -> TableEntry | None:
    """The parts of a table as far as they are durable."""
    if manifest is not None:
        return manifest.tables.get(name)
    parts = tuple(parts_of(folder, name))
    return TableEntry(parts=parts, rows=0) if parts else None


def _pairs(folder: Folder, entry: TableEntry | None) -> pa.Table | None:
    """The table of pairs with numbers of tokens for lists of them, part by part."""
    if entry is None:
        return None
    parts = [counted(folder.read_table(part)) for part in entry.parts]
    return pa.concat_tables(parts, promote_options="default") if parts else None
