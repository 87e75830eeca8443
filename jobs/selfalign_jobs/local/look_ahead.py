"""What can be found out before a run is paid for: of its tables and models, of its first records, of a run like it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from selfalign_api.errors import ConfigError
from selfalign_api.places import file_url
from selfalign_api.plan import AnyStep, ModelRef, Plan, Prepare, SourceRef, Train
from selfalign_api.run_file import Means, RunFile, StepConfig
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.accept.foreseen import most_rows
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.accept.weights import BYTES, LAYER, Tensors, linear_modules, parameters_of, read_weights
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.local.estimate import Weights
from selfalign_jobs.local.measured import Measured, of_loads, of_run, tokens_of_row
from selfalign_jobs.local.played import Play
from selfalign_jobs.local.preview import FileOf, rehearsed
from selfalign_jobs.local.runner import RUN_FILE
from selfalign_jobs.places.store import PLAN_FILE, Folder, read_json, read_plan
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.prepared import prepare_table
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.written import ids_by

SAMPLE = 500  # rows that are tokenised to see how long they are
LIKE = "--like"
AT_MOST = (
    "each answer is assumed to take all of its role's maxTokens, and no record to be dropped: a run takes less; -n 50 or "
    "--like RUN go by what was measured"
)


@dataclass(frozen=True)
class OwnTable:
    """What a step prepares of sources alone: the first rows, and how many there are of those that there could be."""

    step: AnyStep
    out: str  # the table that is made of them; "": a training learns from them
    first: pa.Table
    share: float


def own_tables(resolved: Resolved, file_of: FileOf) -> list[OwnTable]:
    """The tables of a run that can be prepared before it begins. Raises ConfigError as its steps would."""
    found: list[OwnTable] = []
    with tempfile.TemporaryDirectory(prefix="selfalign-estimate-") as scratch:
        file = file_of(file_url(Path(scratch) / "run"))
        for step in resolved.plan.steps:
            config = StepConfig.of(file, resolved.plan, step.name, attempt=1)
            context = StepContext.of(config, Progress(step.name), threading.Event())
            for out, prepare in _of_sources(step):
                table = prepare_table(context, prepare, out or "pairs")
                most = most_rows(resolved.plan, prepare, resolved.rows)
                found.append(OwnTable(step, out, table.slice(0, SAMPLE), table.num_rows / most if most else 1))
    return found


def _of_sources(step: AnyStep) -> Iterator[tuple[str, Prepare]]:
    if isinstance(step, Train):
        prepares = [("", step.data)]
    else:
        prepares = [(job.out, job.rows) for load in getattr(step, "loads", ()) for job in load.jobs]
    for out, prepare in prepares:
        if all(isinstance(ref, SourceRef) for ref in prepare.inputs):
            yield out, prepare


def of_own(resolved: Resolved, tables: Sequence[OwnTable]) -> Measured:
    """How many rows there are of what is made of sources, and how long those are that a training reads."""
    made = {(table.step.name, table.out): table.share for table in tables}
    row_tokens = {
        table.step.name: tokens_of_row(table.step, ids_by(_chat(resolved, table.step.start), table.step, table.first))
        for table in tables
        if isinstance(table.step, Train) and table.first.num_rows
    }
    return Measured(made=made, row_tokens=row_tokens)


def at_most(resolved: Resolved, mounts: Mapping[str, str], tables: Sequence[OwnTable]) -> Measured:
    """What records take if each answer is as long as its role allows."""
    folders = {lineage: model.folder for lineage, model in resolved.models.items()}
    first = {(table.step.name, table.out): table.first for table in tables}
    return Play(resolved.plan, folders, mounts, first).run()


def _chat(resolved: Resolved, model: ModelRef) -> ModelChat:
    origin = resolved.plan.origin(model)
    return ModelChat.of(resolved.models[origin].folder, resolved.plan.models[origin], read=read_tokenizer)


def first_records(plan: Plan, file_of: FileOf, records: int, console: Console) -> Measured:
    """What so many records of the run's first generation took, by its real engine. Raises as `rehearsed`."""
    with rehearsed(plan, file_of, records, console) as (step, folder, manifest):
        return Measured(tables=of_loads(plan, step, folder, manifest))


def run_like(plan: Plan, means: Means, folder: Folder) -> tuple[Measured, list[str]]:
    """What the finished steps of another run of the recipe took, and what that assumes. Raises ConfigError."""
    if not folder.exists(PLAN_FILE):
        message = f"{folder.place} has no {PLAN_FILE}; write the folder that `selfalign run` printed"
        raise ConfigError.one(LIKE, message)
    other = read_plan(folder)
    if other.recipe != plan.recipe:
        raise ConfigError.one(
            LIKE, f"{folder.place} is a run of recipe {other.recipe}, and this is one of {plan.recipe}"
        )
    file = read_json(folder, RUN_FILE, RunFile, "leave it out") if folder.exists(RUN_FILE) else None
    assumed = []
    ran_on: Means | None = means if file is None else file.means
    if file is None:
        assumed.append(f"{folder.place} is assumed to have had the GPUs of this run, for it does not say which")
    if other.models["policy"].digest != plan.models["policy"].digest:
        assumed.append(f"{folder.place} is of another model, so that it says nothing of time")
        ran_on = None
    elif ran_on is not None and ran_on.generation.device != means.generation.device:
        assumed.append(f"{folder.place} ran on a {ran_on.generation.device}, so that it says nothing of time")
        ran_on = None
    found = of_run(other, folder, ran_on)
    if not (found.tables or found.row_tokens):
        raise ConfigError.one(LIKE, f"{folder.place} has no finished step yet; wait for one, or write -n 50 instead")
    return found, assumed


def weights_of(resolved: Resolved, means: Means) -> Weights:
    """Bytes of the models and checkpoints that the run's trainings leave in its folder."""
    plan, model, checkpoint = resolved.plan, dict[str, float](), dict[str, float]()
    for step in (step for step in plan.steps if isinstance(step, Train)):
        tensors = read_weights(resolved.models[plan.origin(step.start)])
        model[step.name] = sum(tensor.size * BYTES.get(tensor.dtype, 2) for tensor in tensors.values())
        bytes_each = 12 if step.settings.precision == "float32" else 14  # docs/sizing.md
        checkpoint[step.name] = means.training.keep_checkpoints * bytes_each * _trained(tensors, step.settings)
    return Weights(model, checkpoint)


def _trained(tensors: Tensors, settings: TrainSettings) -> int:
    """Numbers that a training steps: all of the model, or those of its adapter."""
    if settings.lora is None:
        return parameters_of(tensors)
    names = set(settings.lora.target_modules) or linear_modules(tensors)
    adapted = (tensor for name, tensor in tensors.items() if LAYER.search(name) and name.split(".")[-2] in names)
    return sum(settings.lora.rank * sum(tensor.shape) for tensor in adapted if len(tensor.shape) == 2)
