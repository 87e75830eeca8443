"""`selfalign preview`: the first records of a run, by its real engine and flows, to be read before more is paid for.

It is the run's first generation with its first rows, in a folder that is gone afterwards.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from selfalign_api.errors import ConfigError
from selfalign_api.life import FailurePolicy
from selfalign_api.places import file_url
from selfalign_api.plan import EngineLoad, FlowJob, Generate, Plan, SourceRef, models_of
from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.local.panel import PlainLines
from selfalign_jobs.local.runner import LocalRun
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, read_parts, write_plan
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.prepared import prepare_table
from selfalign_jobs.step.progress import Progress

BOOKS = re.compile("^_|finish$|_forward$|_backward$")  # columns that are kept for the report
ONCE = FailurePolicy(max_retries_per_step=0)


FileOf = Callable[[str], RunFile]  # the run as its step programs read it, by the URL of a folder for its artefacts


def preview(plan: Plan, file_of: FileOf, records: int, console: Console) -> None:
    """Print so many records of each table of the run's first generation; nothing is kept. Raises as `rehearsed`."""
    with rehearsed(plan, file_of, records, console) as (_, folder, manifest):
        for name, entry in manifest.tables.items():
            console.print(shown(name, read_parts(folder, entry)))


@contextmanager
def rehearsed(
    plan: Plan, file_of: FileOf, records: int, console: Console
) -> Iterator[tuple[Generate, Folder, Manifest]]:
    """The run's first generation of so many records a table, done: the step, its folder, which is gone afterwards, its manifest.

    Raises ConfigError for a run that generates nothing before it trains, and as the runner does.
    """
    step = first_generation(plan)
    with tempfile.TemporaryDirectory(prefix="selfalign-preview-") as scratch:
        file = file_of(file_url(Path(scratch) / "run"))
        one = file.means.generation.model_copy(update={"replicas": 1})
        means = file.means.model_copy(update={"generation": one})
        file = file.model_copy(update={"reuse_from": (), "means": means})
        patient = step.engine.model_copy(update={"max_set_aside_percent": 100})  # a few records are no sample of it
        then = tuple(_drawing_few(load, records) for load in step.then)
        step = step.model_copy(update={"engine": patient, "then": then})
        plan = Plan(**dict(plan) | {"steps": (step,)})
        run, work = Folder.open(file.storage), Path(scratch) / "work"
        work.mkdir()
        write_plan(run, plan)
        context = StepContext.of(
            StepConfig.of(file, plan, step.name, attempt=1), Progress(step.name), threading.Event()
        )
        _first_rows(context, step, records)
        LocalRun(plan, file, work, ONCE, PlainLines(console)).run()
        manifest = read_manifest(context.folder)
        assert manifest is not None  # the runner has seen it
        yield step, context.folder, manifest


def first_generation(plan: Plan) -> Generate:
    """The run's first step, which writes. ConfigError where something is trained before."""
    step = plan.steps[0]
    if isinstance(step, Generate) and all(plan.trainer_of(model) is None for model in models_of(step)):
        return step
    message = (
        f"recipe {plan.recipe} trains ({step.name}) before it generates anything; `selfalign plan` prints its steps, a run "
        "with a small data.….count shows what they make, and `selfalign estimate --like` that run what this one will take"
    )
    raise ConfigError.one("spec.recipe", message)


def _first_rows(context: StepContext, step: Generate, records: int) -> None:
    """The tables that the step would prepare of the user's sources, cut: it takes what is prepared as it is."""
    for job in (job for load in step.loads for job in load.jobs):
        if all(isinstance(ref, SourceRef) for ref in job.rows.inputs):
            table = prepare_table(context, job.rows, job.out)
            context.folder.write_table(f"prepared/{job.out}.parquet", table.slice(0, records))


def _drawing_few(load: EngineLoad, records: int) -> EngineLoad:
    """A load whose flows draw so many rows of a source beside the tables of the loads before it."""

    def few(job: FlowJob) -> FlowJob:
        if "count" not in job.rows.options or all(isinstance(ref, SourceRef) for ref in job.rows.inputs):
            return job
        rows = job.rows.model_copy(update={"options": job.rows.options | {"count": records}})
        return job.model_copy(update={"rows": rows})

    return load.model_copy(update={"jobs": tuple(map(few, load.jobs))})


def shown(name: str, table: pa.Table) -> RenderableType:
    """A table's records for a person, in the order of their rows: how each ended, and all that is text or a number."""
    parts: list[RenderableType] = [Rule(Text(name, style="bold"), align="left")]
    for row in sorted(table.to_pylist(), key=lambda row: row["_source"]):
        ended = "" if row["_status"] == "rows" else f"  {row['_status']}: {row['_reason']}"
        parts.append(Text(f"record {row['_source'] + 1}{ended}", style="yellow" if ended else "green"))
        parts += [Padding(line, (0, 0, 0, 2)) for line in _lines(row)]
        parts.append(Text())
    return Group(*parts)


def _lines(row: dict[str, Any]) -> Iterator[Text]:
    for field, value in row.items():
        if isinstance(value, str | float) and not BOOKS.search(field):
            words = f"{value:.3f}" if isinstance(value, float) else str(value)
            between = "\n" if "\n" in words else " "
            yield Text.assemble((f"{field}:", "dim"), between, words)
    if row["_detail"]:
        yield Text.assemble(("detail:", "dim"), " ", row["_detail"])
