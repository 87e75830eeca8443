"""A recipe's plan played to its end: flows by the real loop against a scripted engine, whole tables by the recipe's functions.

What a step reads it reads as the program does: rows alone, and of them the columns that the recipe says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from fake_engine import FakeEngine
from test_generate_loop import Letters

from selfalign_api.plan import AnyStep, EngineLoad, Evaluate, FlowJob, Generate, Prepare, SourceRef, Train
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.records import Record
from selfalign_jobs.recipes.base import Recipe

Play = Callable[[FlowJob, EngineLoad, pa.Table], list[Record]]


def ids(text: str, *, ended: bool = True) -> list[int]:
    """The ids of a text in the chat of letters, with the end token unless it was cut."""
    return [*map(ord, text), *([Letters.end_id] if ended else [])]


def run_job(found: Recipe, job: FlowJob, engine: FakeEngine, renderer: Any, rows: pa.Table) -> list[Record]:
    """The records of a job over these rows, in the order of the rows."""
    loop = FlowLoop(engine, {job.out: JobSetup(job, found.flows[job.flow].run, renderer, 0)}, 4)
    loop.add([Task(job.out, number, f"r{number}", 1, row) for number, row in enumerate(rows.to_pylist())])
    while loop.unfinished:
        loop.advance()
    return sorted(loop.take_finished()[job.out], key=lambda record: record.source)


class PlayedPlan:
    """Tables and records by step and name; of a training its table is called `trained`."""

    def __init__(
        self,
        found: Recipe,
        sources: Mapping[str, pa.Table],
        steps: Sequence[AnyStep],
        play: Play,
        kinds: type[Generate] | tuple[type[Generate], type[Evaluate]] = Generate,
    ) -> None:
        """`play` gives a job's records. Evaluations and what they begin with are played where `kinds` has them."""
        self._found, self._sources = found, sources
        self.tables: dict[tuple[str, str], pa.Table] = {}
        self.records: dict[tuple[str, str], list[Record]] = {}
        for step in steps:
            if isinstance(step, Train):
                self.tables[step.name, "trained"] = self.prepared(step.data)
            elif isinstance(step, kinds):
                for load in step.loads:
                    for job in load.jobs:
                        if job.flow != "answer" or kinds is not Generate:
                            self._take(step.name, job, play(job, load, self.prepared(job.rows)))

    def _take(self, step: str, job: FlowJob, records: list[Record]) -> None:
        schema = self._found.flows[job.flow].schema
        assert {name for record in records for row in record.rows for name in row} <= {*schema.names}
        rows = [row for record in records if record.status == "rows" for row in record.rows]
        self.tables[step, job.out] = pa.Table.from_pylist(rows, schema)
        self.records[step, job.out] = records

    def prepared(self, prepare: Prepare) -> pa.Table:
        """What a whole-table function makes of its inputs."""
        inputs = tuple(
            self._sources[ref.name] if isinstance(ref, SourceRef) else self._read(ref.step, ref.name, prepare.fn)
            for ref in prepare.inputs
        )
        return self._found.prepares[prepare.fn].run(inputs, prepare.options)

    def _read(self, step: str, name: str, fn: str) -> pa.Table:
        table, columns = self.tables[step, name], self._found.prepares[fn].reads
        return table if columns is None else table.select([each for each in table.column_names if each in columns])

    def rows(self, step: str, name: str, *columns: str) -> list[tuple[Any, ...]]:
        """These columns of a table, sorted."""
        return sorted(tuple(row[column] for column in columns) for row in self.tables[step, name].to_pylist())

    def lost(self, step: str, name: str) -> set[tuple[str, str | None]]:
        """Prompt and reason of the records that made no row."""
        ended = [record for record in self.records[step, name] if record.status != "rows"]
        return {(record.rows[0].get("prompt", "") if record.rows else "", record.reason) for record in ended}
