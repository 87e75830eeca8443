"""`selfalign plan`: the steps that would run, as a person reads them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfalign_api.plan import ArtifactRef, ModelRef, Publish, SourceRef, TableRef, Train
from selfalign_api.run_file import Means
from selfalign_jobs.accept.foreseen import most_steps
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.recipes.base import Step


def plan_table(resolved: Resolved, means: Means) -> RenderableType:
    """A row a step: what it loads, reads and makes, and the digest that its reuse goes by."""
    plan = resolved.plan
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "model", "does", "reads", "makes", "digest"):
        table.add_column(column, overflow="fold")
    for step in plan.steps:
        digest = plan.step_digest(step.name).removeprefix("sha256:")[:12]
        cells = (step.name, *_row(step, resolved), digest)
        table.add_row(*(Text(cell) for cell in cells))  # a path may look like markup
    where = (
        f"{means.generation.replicas} engine(s), {means.training.nodes} × {max(1, means.training.gpus_per_node)} rank(s), "
        f"ZeRO {means.training.zero_stage}, {means.generation.device}"
    )
    whose = Text(f"{plan.name}: recipe {plan.recipe}, seed {plan.seed}, {plan.digest}")
    return Group(
        whose, Text(where), Text(""), table, *(Text(f"worth a second look: {note}") for note in resolved.notes)
    )


def training_words(step: Train) -> str:
    """`simpo β=10 γ=3, lr 1e-06, batch 128, 1 epoch`."""
    settings = step.settings
    loss = " ".join([step.loss.type, *(f"{letter}={value:g}" for letter, value in step.loss.constants.items())])
    epochs = "epoch" if settings.epochs == 1 else "epochs"
    return f"{loss}, lr {settings.learning_rate:g}, batch {settings.global_batch_size}, {settings.epochs:g} {epochs}"


def _row(step: Step, resolved: Resolved) -> tuple[str, str, str, str]:
    if isinstance(step, Train):
        steps = most_steps(resolved.plan, step, resolved.rows)
        does = f"{training_words(step)}: at most {steps:,} step{'' if steps == 1 else 's'}"
        reads = ", ".join(_table(ref) for ref in step.data.inputs)
        return _model(step.start), does, reads, _model(step.result)
    if isinstance(step, Publish):
        pairs = ", ".join(_table(ref) for ref in step.pairs)
        return _model(step.model), "copies", pairs, ", ".join(url for url in (step.url, step.dataset_url) if url)
    models = ", ".join(_model(load.model) for load in step.loads)
    jobs = [job for load in step.loads for job in load.jobs]
    reads = ", ".join(dict.fromkeys(_table(ref) for job in jobs for ref in job.rows.inputs))
    return models, ", ".join(job.flow for job in jobs), reads, ", ".join(job.out for job in jobs)


def _model(ref: ModelRef) -> str:
    return f"{ref.lineage}/{ref.iteration}"


def _table(ref: TableRef) -> str:
    return f"{ref.step}:{ref.name}" if isinstance(ref, ArtifactRef) else _source(ref)


def _source(ref: SourceRef) -> str:
    return f"data:{ref.name}"
