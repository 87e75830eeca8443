"""What a run has left in its folder, read for the report: manifests, tables, owner; finished or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from selfalign_api.plan import ArtifactRef, Evaluate, FlowJob, Generate, Plan, Publish, Train
from selfalign_api.plan_values import Json
from selfalign_jobs.accept.owner import OWNER, Owner, read_owner
from selfalign_jobs.places.store import Folder, Manifest, TableEntry, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.publish.rounds import Rounds, rounds_of
from selfalign_jobs.recipes.base import Step
from selfalign_jobs.recipes.tables import counts_of, learned_from
from selfalign_jobs.step.pair_figures import counted, kept_pairs

TRAINED = "pairs"  # the prepared table of a train step, whatever its objective
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
class Made:
    """A table that a flow of an engine's step makes."""

    facts: StepFacts
    job: FlowJob
    table: (
        pa.Table | None
    )  # with the ledger's columns: also the records that ended without a row; None before any is durable
    drawn: int  # rows that go in, as far as they are drawn

    @property
    def ref(self) -> ArtifactRef:
        """As a plan names it."""
        return ArtifactRef(step=self.facts.step.name, name=self.job.out)

    @property
    def rows(self) -> int:
        """Rows of it, without the records that ended otherwise."""
        return 0 if self.table is None else kept_pairs(self.table).num_rows


@dataclass(frozen=True)
class Trained:
    """A training: how many rows it learns from, what it left out and why, and its log; None until it is done."""

    facts: StepFacts
    step: Train
    rows: int
    left_out: dict[str, int]
    log: pa.Table | None
    given: pa.Table | None = (
        None  # pairs of the user's that it was given: no step made them, so no other table has them
    )


def learns_from(step: Train) -> tuple[ArtifactRef, ...]:
    """The tables of earlier steps that a training learns from; those held out are not of them."""
    return tuple(ref for ref in learned_from(step.data) if isinstance(ref, ArtifactRef))


@dataclass(frozen=True)
class Iteration:
    """What one iteration made, as its plan has it: any number of tables and trainings."""

    number: int
    steps: tuple[StepFacts, ...]
    made: tuple[Made, ...]
    trained: tuple[Trained, ...]

    @property
    def results(self) -> dict[str, Json]:
        """The figures of its evaluations, by name; empty before one is done."""
        found: dict[str, Json] = {}
        for facts in self.steps:
            if isinstance(facts.step, Evaluate) and facts.manifest is not None:
                found |= facts.manifest.result["checks"]
        return found

    def only_reader(self, made: Made) -> Trained | None:
        """The training of this iteration that learns from this table and from no other, where there is one."""
        return next((trained for trained in self.trained if learns_from(trained.step) == (made.ref,)), None)


@dataclass(frozen=True)
class Evidence:
    """A run as its folder shows it."""

    plan: Plan
    owner: Owner | None
    iterations: tuple[Iteration, ...]
    rounds: Rounds | None = None  # None where nothing is published

    @property
    def steps(self) -> tuple[StepFacts, ...]:
        """All steps in the order of the plan, without those that the loop ended before."""
        return tuple(facts for iteration in self.iterations for facts in iteration.steps)

    @property
    def finished(self) -> bool:
        """Whether every step is done, but for what copies the result, the report among it."""
        return all(facts.manifest is not None for facts in self.steps if not isinstance(facts.step, Publish))


def read_evidence(run: Folder, plan: Plan) -> Evidence:
    """Read a run's folder. Follows manifests where a step is done, else the parts that are committed."""
    owner = read_owner(run) if run.exists(OWNER) else None
    rounds = rounds_of(run, plan)
    steps = [step for step in plan.steps if rounds is None or not rounds.leave_out(step)]
    numbers = sorted({step.iteration for step in steps})
    return Evidence(plan, owner, tuple(_iteration(run, steps, number) for number in numbers), rounds)


def _iteration(run: Folder, steps: Sequence[Step], number: int) -> Iteration:
    found = tuple(
        StepFacts(step, read_manifest(step_folder(run, number, step.name)))
        for step in steps
        if step.iteration == number
    )
    made, trained = [], []
    for facts in found:
        folder = step_folder(run, number, facts.step.name)
        if isinstance(facts.step, Generate | Evaluate):
            made += [_made(folder, facts, job) for load in facts.step.loads for job in load.jobs]
        elif isinstance(facts.step, Train):
            trained.append(_trained(folder, facts, facts.step))
    return Iteration(number, found, tuple(made), tuple(trained))


def _made(folder: Folder, facts: StepFacts, job: FlowJob) -> Made:
    return Made(facts, job, _table(folder, _entry(folder, facts.manifest, job.out)), _prepared_rows(folder, job.out))


def _trained(folder: Folder, facts: StepFacts, step: Train) -> Trained:
    entry, manifest = _entry(folder, facts.manifest, LOG), facts.manifest
    log = None if entry is None else read_parts(folder, entry)
    if manifest is None:
        return Trained(facts, step, 0, {}, log)
    overlong = manifest.result.get("droppedOverlong", 0)
    counts = _counts(folder)
    left_out = {
        "chosen and rejected are the same text": counts.get("identical", 0),
        "prompt is held out for evaluation": counts.get("promptHeldOut", 0),
        "prompt is a near duplicate of an earlier one": counts.get("nearDuplicates", 0),
        "the model cannot have written it": counts.get("unwritten", 0),
        "it goes on with a conversation": counts.get("goesOn", 0),
        "its user has too few questions for a window": counts.get("fewQuestions", 0),
        "its prompt has too few keywords": counts.get("fewKeywords", 0),
        "its answer is not better than the model's by minSeedScoreGap": counts.get("belowGap", 0),
        "two make a pair, and the rest found no partner": counts.get("unpaired", 0),
        "handled, and not of the share that is taught": counts.get("handled", 0),
        "longer than the training's bounds": overlong,
    }
    rows = _prepared_rows(folder, TRAINED) - overlong
    left_out = {reason: number for reason, number in left_out.items() if number}
    return Trained(facts, step, rows, left_out, log, None if learns_from(step) else _given(folder))


def _given(folder: Folder) -> pa.Table | None:
    """A training's table, where its rows are pairs of texts."""
    table = counted(folder.read_table(f"prepared/{TRAINED}.parquet"))
    there = {"prompt", "chosen", "rejected", "chosen_tokens", "rejected_tokens"} <= {*table.column_names}
    return table if there and table.num_rows else None


def _counts(folder: Folder) -> dict[str, int]:
    """The figures that a training's prepared table has of its making."""
    return counts_of(folder.read_table(f"prepared/{TRAINED}.parquet", columns=[]))


def _prepared_rows(folder: Folder, name: str) -> int:
    """Rows of a prepared table; 0 before it is there."""
    kept = f"prepared/{name}.parquet"
    return folder.read_table(kept, columns=[]).num_rows if folder.exists(kept) else 0


def _words(phase: str) -> str:
    """`engineStart` as `engine start`."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: " " + found[1].lower(), phase)


def _entry(folder: Folder, manifest: Manifest | None, name: str) -> TableEntry | None:
    """The parts of a table as far as they are durable."""
    if manifest is not None:
        return manifest.tables.get(name)
    parts = tuple(parts_of(folder, name))
    return TableEntry(parts=parts, rows=0) if parts else None


def _table(folder: Folder, entry: TableEntry | None) -> pa.Table | None:
    """A table with numbers of tokens for lists of them, part by part."""
    if entry is None:
        return None
    parts = [counted(folder.read_table(part)) for part in entry.parts]
    return pa.concat_tables(parts, promote_options="default") if parts else None
