"""What a run will take: rows of each step by what its recipe makes of how many, times what was measured of a row. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfalign_api.plan import ArtifactRef, Evaluate, FlowJob, Generate, Plan, Prepare, TableRef, Train
from selfalign_api.run_file import Means
from selfalign_jobs.accept.foreseen import Rows, most_rows, rows_made
from selfalign_jobs.evaluate.statistics import Z, wilson
from selfalign_jobs.local.measured import Key, Measured, T, Table, gpus_of, same_step, tokens_of_row
from selfalign_jobs.step.prepared import rows_of
from selfalign_jobs.train.settings import Reads
from selfalign_jobs.train.steps import passes

# Of a token in the tables of a run at the most: its id, its text, and again where a training reads it.
STORED_BYTES = 16
NEAR = 0.25  # how far a share of the records may lie from what was measured, until that is said


@dataclass(frozen=True)
class StepEstimate:
    """What a step will take; None where nothing was measured that would tell."""

    name: str
    kind: str
    rows: int  # that it works on: records, or rows it trains on
    most: int  # of them, if none of an earlier step is dropped
    read: float | None  # tokens, of prompts
    written: float | None
    trained: float | None
    seconds: float | None
    gpus: int
    stored: float  # bytes that it leaves in the run's folder
    checkpoints: float = 0  # bytes that a training of some length leaves beside its model

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours; 0 on a CPU."""
        return None if self.seconds is None else self.seconds * self.gpus / 3600


@dataclass(frozen=True)
class Estimate:
    """What a run will take, by step, and what was assumed for it, in words."""

    steps: tuple[StepEstimate, ...]
    assumed: tuple[str, ...]

    def total(self, what: str) -> float | None:
        """The sum of a figure over all steps; None where a step's is not known."""
        found = [getattr(step, what) for step in self.steps]
        return None if None in found else sum(found)

    def known(self, what: str) -> float:
        """The sum of a figure over the steps of which it is known."""
        return float(sum(getattr(step, what) or 0 for step in self.steps))


@dataclass(frozen=True)
class Weights:
    """Bytes of the models that a run trains, by training: what it saves, and what a checkpoint takes."""

    model: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Mapping[str, float] = field(default_factory=dict)


def estimate(plan: Plan, rows: Rows, measured: Measured, bounds: Measured, means: Means, weights: Weights) -> Estimate:
    """What the run will take, in the order of its steps; `rows` are those of its sources.

    Where nothing like a table was measured it takes what its `bounds` have, at the most.
    """
    model = _Model(plan, rows, measured, bounds)
    steps = []
    for step in plan.steps:
        found = model.of(step)
        speed = _of_step(measured.speeds, step.name)
        tokens = found.tokens
        gpus = gpus_of(step, means)
        seconds = None if speed is None or tokens is None else speed.fixed + speed.seconds * tokens / max(1, gpus)
        if not isinstance(step, Generate | Evaluate | Train):
            seconds = 0.0  # it copies
        steps.append(
            StepEstimate(
                name=step.name,
                kind=step.kind,
                rows=round(found.rows),
                most=max(found.most, round(found.rows)),
                read=found.read,
                written=found.written,
                trained=found.trained,
                seconds=seconds,
                gpus=gpus,
                stored=found.stored * (_of_step(measured.stored, step.name) or STORED_BYTES)
                + weights.model.get(step.name, 0),
                checkpoints=weights.checkpoint.get(step.name, 0),
            )
        )
    return Estimate(tuple(steps), tuple(dict.fromkeys(model.assumed)))


@dataclass
class _Sum:
    """Of a step."""

    rows: float = 0
    most: int = 0
    read: float | None = 0.0
    written: float | None = 0.0
    trained: float | None = 0.0
    once: float = 0.0  # what is trained on, in one epoch

    @property
    def tokens(self) -> float | None:
        """All together; None where one kind is not known."""
        if self.read is None or self.written is None or self.trained is None:
            return None
        return self.read + self.written + self.trained

    @property
    def stored(self) -> float:
        """Tokens in its tables, as far as they are known: what is trained on several times stands there once."""
        return (self.read or 0) + (self.written or 0) + self.once


@dataclass
class _Model:
    """The run as it is walked through: how many records of each table are kept, and what had to be assumed."""

    plan: Plan
    rows: Rows
    measured: Measured
    bounds: Measured
    kept: dict[Key, float] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)

    def of(self, step: object) -> _Sum:
        """What a step works on and takes."""
        found = _Sum()
        if isinstance(step, Train):
            self._train(step, found)
        elif isinstance(step, Generate | Evaluate):
            for load in step.loads:
                for job in load.jobs:
                    self._write(step, job, found, scores=self.plan.kind_of(load.model) != "Causal")
        return found

    def _write(self, step: Generate | Evaluate, job: FlowJob, found: _Sum, *, scores: bool) -> None:
        records = self._made(step.name, job.out, job.rows, found)
        found_at = self._like(step.name, job, scores=scores)
        self.kept[step.name, job.out] = records * found_at.kept
        self.assumed += [found_at.assumed] if found_at.assumed else []
        if found_at.records and (words := unsure(found_at.kept_records, found_at.records)):
            self.assumed.append(f"{same_step(step.name)}: of {job.out}, {words}")
        read, written = found_at.tokens or (None, None)
        found.read = _sum(found.read, read, records)
        found.written = _sum(found.written, written, records)

    def _train(self, step: Train, found: _Sum) -> None:
        rows = round(self._made(step.name, "", step.data, found))
        tokens = _of_step(self.measured.row_tokens, step.name)
        if tokens is None:
            tokens = self._row_tokens(step)
        if tokens is None and (tokens := _of_step(self.bounds.row_tokens, step.name)) is not None:
            self.assumed.append(
                f"{step.name}: nothing was measured of the rows that it learns from: its tokens are the most"
            )
        seen = sum(passes(rows, step.settings.epochs)) if rows else 0
        found.trained = None if tokens is None else tokens * seen
        found.once = (tokens or 0) * rows
        if tokens is None:
            self.assumed.append(
                f"{step.name}: nothing was measured of the rows that it learns from, so its tokens are not told"
            )

    def _row_tokens(self, step: Train) -> float | None:
        """Tokens of a row, by the ids of the tables that it learns from."""
        needed = set(Reads.of(step.loss.type).columns)
        for ref in (ref for ref in step.data.inputs if isinstance(ref, ArtifactRef)):
            table = _of_table(self.measured.tables, ref.step, ref.name)
            if table is not None and table.rows is not None and needed <= {*table.rows.column_names}:
                rows = rows_of(table.rows)
                if rows.num_rows:
                    return tokens_of_row(step, rows)
        return None

    def _made(self, step: str, out: str, prepare: Prepare, found: _Sum) -> float:
        """Rows of a prepared table, of the records that are kept of earlier steps; they are added to the step's."""
        shares = (_of_table(known.made, step, out) for known in (self.measured, self.bounds))
        share = next((share for share in shares if share is not None), 1)
        rows = rows_made(self.plan, prepare, self._given) * share
        found.rows += rows
        found.most += most_rows(self.plan, prepare, self.rows)
        return rows

    def _given(self, ref: TableRef) -> int:
        return round(self.kept[ref.step, ref.name]) if isinstance(ref, ArtifactRef) else self.rows[ref.name]

    def _like(self, step: str, job: FlowJob, *, scores: bool) -> _PerRecord:
        """What was measured of a table, or of those by the same flow, or by the same roles; and what that assumes."""
        known, roles = self.measured.tables, _roles(job)
        own = _of_table(known, step, job.out)
        if own is not None and own.flow == job.flow and own.records:
            return _PerRecord.of([own])
        takes = f"{step}: {job.out} is assumed to take as many tokens a record as"
        if same := {out: table for (_, out), table in known.items() if table.flow == job.flow and table.records}:
            return _PerRecord.of([*same.values()], assumed=f"{takes} {_listed(same)}, by the same flow")
        alike = {
            out: table
            for (_, out), table in known.items()
            if table.scores == scores and table.records and roles and roles <= table.tokens.keys()
        }
        if alike:
            found = _PerRecord.of([*alike.values()], roles, f"{takes} {_listed(alike)} for {_listed(sorted(roles))}")
            return replace(found, kept=1, records=0)
        if (most := _of_table(self.bounds.tables, step, job.out)) is not None:
            said = f"{step}: nothing was measured that is like {job.out}: its tokens are the most that there can be"
            return _PerRecord.of([most], assumed=said)
        return _PerRecord(1, None, f"{step}: nothing was measured that is like {job.out}: its tokens are not told")


@dataclass(frozen=True)
class _PerRecord:
    """Of a table: the share of its records that is kept, tokens read and written for each, and what that assumes."""

    kept: float
    tokens: tuple[float, float] | None
    assumed: str = ""
    records: int = 0  # that the share rests on, and those of them that were kept
    kept_records: int = 0

    @classmethod
    def of(cls, tables: Sequence[Table], roles: Container[str] | None = None, assumed: str = "") -> _PerRecord:
        """The mean over all records of some tables; of these roles alone, where they are given."""
        records, kept = (sum(getattr(table, what) for table in tables) for what in ("records", "kept"))
        counts = [count for table in tables for role, count in table.tokens.items() if roles is None or role in roles]
        read, written = (sum(count[which] for count in counts) / records for which in (0, 1))
        return cls(kept / records, (read, written), assumed, records, kept)


def unsure(kept: int, records: int) -> str:
    """Words where so few records say little of how many a run keeps, and so of what is trained on; else none."""
    found = wilson(kept, records)
    if max(found.high - found.value, found.value - found.low) <= NEAR * found.value:
        return ""
    said = (
        f"{kept} of {records} measured records were kept: {found.low:.0%} to {found.high:.0%} of all will be (95 %), and what "
        "is made of them is as unsure"
    )
    if not kept:
        return said
    enough = (Z / NEAR) ** 2 * (1 - found.value) / found.value
    return f"{said}; some {enough:,.0f} records tell it within {NEAR:.0%}"


def _sum(so_far: float | None, each: float | None, records: float) -> float | None:
    return None if so_far is None or each is None else so_far + each * records


def _roles(job: FlowJob) -> set[str]:
    return set(job.roles) | ({"judge"} if job.judge is not None else set())


def _of_table(known: Mapping[Key, T], step: str, out: str) -> T | None:
    """What is known of a table, or of that of the newest other iteration."""
    if (step, out) in known:
        return known[step, out]
    return next(
        (known[key] for key in reversed([*known]) if (same_step(key[0]), key[1]) == (same_step(step), out)), None
    )


def _of_step(known: Mapping[str, T], step: str) -> T | None:
    if step in known:
        return known[step]
    return next((known[name] for name in reversed([*known]) if same_step(name) == same_step(step)), None)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
