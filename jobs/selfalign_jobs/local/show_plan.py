"""`selfalign plan`: the steps that would run, as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfalign_api.plan import ArtifactRef, ModelRef, Plan, Publish, SourceRef, TableRef, Train
from selfalign_api.run_file import Means, TrainingMeans
from selfalign_jobs.accept.foreseen import most_steps
from selfalign_jobs.recipes.base import Step
from selfalign_jobs.train.settings import uses_deepspeed, zero_stage_of


def plan_table(plan: Plan, rows: Mapping[str, int], means: Means, notes: Sequence[str]) -> RenderableType:
    """A row a step: what it loads, reads and makes, and the digest that its reuse goes by; `rows` are of the sources."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "model", "does", "reads", "makes", "digest"):
        table.add_column(column, overflow="fold")
    for step in plan.steps:
        digest = plan.step_digest(step.name).removeprefix("sha256:")[:12]
        cells = (step.name, *_row(step, plan, rows), digest)
        table.add_row(*(Text(cell) for cell in cells))  # a path may look like markup
    where = (
        f"{means.generation.replicas} engine(s), {means.training.nodes} × {max(1, means.training.gpus_per_node)} rank(s), "
        f"{_zero(means.training)}, {means.generation.device}"
    )
    whose = Text(f"{plan.name}: recipe {plan.recipe}, seed {plan.seed}, {plan.digest}")
    return Group(whose, Text(where), Text(""), table, *(Text(f"worth a second look: {note}") for note in notes))


def training_words(step: Train) -> str:
    """`simpo β=10 γ=3, lr 1e-06, batch 128, 1 epoch`."""
    settings = step.settings
    loss = " ".join([step.loss.type, *(f"{letter}={value:g}" for letter, value in step.loss.constants.items())])
    epochs = "epoch" if settings.epochs == 1 else "epochs"
    return f"{loss}, lr {settings.learning_rate:g}, batch {settings.global_batch_size}, {settings.epochs:g} {epochs}"


def _zero(means: TrainingMeans) -> str:
    """The stage that is asked for; which of two it is depends on the card that the training finds."""
    if not uses_deepspeed(means):
        return "no ZeRO"
    stage = zero_stage_of(means)
    return "ZeRO 2 or 3, as fits" if stage is None else f"ZeRO {stage}"


def _row(step: Step, plan: Plan, rows: Mapping[str, int]) -> tuple[str, str, str, str]:
    if isinstance(step, Train):
        steps = most_steps(plan, step, rows)
        does = f"{training_words(step)}{_against(step)}: at most {steps:,} step{'' if steps == 1 else 's'}"
        reads = ", ".join(_table(ref) for ref in step.data.inputs)
        return _model(step.start), does, reads, _model(step.result)
    if isinstance(step, Publish):
        pairs = ", ".join(_table(ref) for ref in step.pairs)
        doing = ["holds the gates" if step.gates else "", "copies" if step.url or step.dataset_url else ""]
        does = ", ".join(filter(None, doing)) or "chooses"
        does += f" the best round by {step.select_by}" if step.select_by else ""
        does += f"; {step.stop_after_worse} in a row that are no better end the loop" if step.stop_after_worse else ""
        return _model(step.model), does, pairs, ", ".join(url for url in (step.url, step.dataset_url) if url)
    models = ", ".join(_model(load.model) for load in step.loads)
    jobs = [job for load in step.loads for job in load.jobs]
    reads = ", ".join(dict.fromkeys(_table(ref) for job in jobs for ref in job.rows.inputs))
    does = ", ".join(
        f"{job.flow}{' (scores)' if load.task == 'score' else ''}" for load in step.loads for job in load.jobs
    )
    return models, does, reads, ", ".join(job.out for job in jobs)


def _against(step: Train) -> str:
    """The reference of a loss that has one, where that is another model than the one it starts from."""
    return f", against {_model(step.reference)}" if step.reference is not None and step.reference != step.start else ""


def _model(ref: ModelRef) -> str:
    return f"{ref.lineage}/{ref.iteration}"


def _table(ref: TableRef) -> str:
    return f"{ref.step}:{ref.name}" if isinstance(ref, ArtifactRef) else _source(ref)


def _source(ref: SourceRef) -> str:
    return f"data:{ref.name}"
