"""The train step: pairs in, a Hugging Face model folder out (the contract is in step/context.py)."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selfalign_api.errors import ConfigError
from selfalign_api.plan import ModelRef, Train
from selfalign_api.plan_values import Json
from selfalign_api.run_file import StepConfig, TrainingMeans
from selfalign_jobs.machine import check_driver
from selfalign_jobs.places.models import locate_model
from selfalign_jobs.places.store import Manifest, TableEntry, read_manifest
from selfalign_jobs.step import points, second_look
from selfalign_jobs.step.context import StepContext, Stopped
from selfalign_jobs.step.events import Events
from selfalign_jobs.step.finish import finish_manifest, tell
from selfalign_jobs.step.gang import Gang
from selfalign_jobs.step.prepared import prepared_file
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.step.reuse import finished_elsewhere
from selfalign_jobs.train import checkpoint
from selfalign_jobs.train.dataset import ROWS_A_CHUNK, Examples, examples, lengths_of
from selfalign_jobs.train.job import EXAMPLES, JOB, LOG, MODEL, REFERENCE, REPORT, Job, error_of, read_outcomes
from selfalign_jobs.train.launch import Nodes, launch
from selfalign_jobs.train.memory import Estimate
from selfalign_jobs.train.settings import (
    REFERENCE_LOSSES,
    Batches,
    Reads,
    Shape,
    batches_of,
    check,
    packs,
    rank_count,
    shape_of,
    told_of,
    uses_deepspeed,
    zero_stage_of,
)
from selfalign_jobs.train.steps import Layout, places_of
from selfalign_jobs.train.written import with_ids

LOG_TABLE = "parts/log.parquet"
# Of rows that are not trained on, or not as a whole (recipes/own_tables.py, seeds.py, windows.py, failures.py; written.py).
OWN_COUNTS = (
    "identical",
    "severalTurns",
    "unwritten",
    "fewKeywords",
    "belowGap",
    "goesOn",
    "fewQuestions",
    "shortened",
    "unpaired",
    "handled",
)
LIBRARIES = ("torch", "transformers", "deepspeed", "peft", "accelerate")


def train(context: StepContext, step: Train) -> Manifest:
    """Train the step's model and publish it.

    Raises ConfigError before anything is loaded, Stopped after what is done was saved, RuntimeError when a rank fails.
    """
    started = datetime.now(UTC)
    with told_of(step), _work_folder(context) as work:
        found, figures = _run_ranks(context, step, work, _nodes(context))
        context.folder.upload(work / MODEL, MODEL)
        log = pq.read_table(work / LOG)
        context.folder.write_table(LOG_TABLE, log)
        context.progress.advance(1)
    return _finish(context, step, started, found, log, figures)


def train_share(context: StepContext, step: Train, gang: Gang) -> None:
    """Run the ranks of a node that is not the gang's head; nothing is to do when the step is done. Raises as `train`."""
    if any(finished_elsewhere(context.config)):
        return
    _models(context.config, step)  # beside the other nodes, before one waits for another
    deadline = time.monotonic() + _startup_seconds()

    def done() -> bool:
        return read_manifest(context.folder) is not None

    head = gang.find_head(gang.port, lambda: context.stop.is_set() or done() or time.monotonic() > deadline)
    if head is not None:
        with told_of(step), _work_folder(context) as work:
            _run_ranks(context, step, work, _nodes(context, head))
    elif context.stop.is_set():
        raise Stopped("stopped before the training began; the next attempt begins it")
    elif not done():
        raise RuntimeError(f"the gang's head {gang.head} was not there within {_startup_seconds()} s")


def _run_ranks(context: StepContext, step: Train, work: Path, nodes: Nodes) -> tuple[Examples, dict[str, Json]]:
    """What is trained on, and the figures of this node's first rank, once all of its ranks are done."""
    config = context.config
    means, settings = config.means.training, step.settings
    check(step, means)
    ranks = rank_count(means)
    here = range(ranks // nodes.count * nodes.index, ranks // nodes.count * (nodes.index + 1))
    _gpus(means, len(here))
    start, reference = _models(config, step)
    reads = Reads.of(step.loss.type)
    kept = prepared_file(context, step.data, "pairs", partial(with_ids, context, step))
    pairs = context.folder.read_batches(kept, reads.columns, ROWS_A_CHUNK)
    found = examples(pairs, settings, reads, work / EXAMPLES)
    lengths = lengths_of(found.table)
    for name, mean in zip(reads.columns[1:], lengths[:, 1:].mean(axis=0), strict=True):
        context.progress.metrics.pair_tokens.labels(name.removesuffix("_ids")).set(mean)
    layout = Layout(packs(json.loads((start / "config.json").read_text())), reads.rewards)
    estimate = Estimate.of(start, settings, means, len(here))
    saved = checkpoint.newest(context.folder)
    shape = shape_of(means, _zero_stage(means, saved, estimate, int(places_of(lengths, layout).max())))
    resume = _resumable(saved, shape, step)
    batches = batches_of(settings, ranks, lengths, means.micro_batch_tokens, estimate.room(shape.zero_stage), layout)
    _say_begin(batches, shape)
    tell([*_notes_before(context, step, found)])
    job = Job(
        config=config,
        start=str(start),
        reference=str(reference) if reference else None,
        work=str(work),
        batches=batches,
        zero_stage=shape.zero_stage,
        resume=resume,
    )
    (work / JOB).write_text(job.model_dump_json())
    listener = Listener(work, context.progress, Events(context.folder, context.config.attempt))
    try:
        launch(work / JOB, len(here), nodes, context.stop, listener.poll)
    finally:
        listener.close()
    outcomes = read_outcomes(work)
    if error := error_of(outcomes, here, ranks, context.stop.is_set()):
        raise error
    return found, outcomes[0].result


def _zero_stage(
    means: TrainingMeans, saved: checkpoint.Checkpoint | None, estimate: Estimate, largest: int
) -> int | None:
    """The stage that is asked for, else that of a checkpoint that goes on as it lies, else the one that fits."""
    stage = zero_stage_of(means)
    if stage is not None or not uses_deepspeed(means):
        return stage
    if saved is not None and saved.shape == shape_of(means, saved.zero_stage):
        return saved.zero_stage
    return estimate.zero_stage(largest)


def _say_begin(batches: Batches, shape: Shape) -> None:
    """How it is going to be computed, in the step's log."""
    layout = "packed, prompts shared" if batches.packed else "padded"
    print(f"training {batches.steps} steps, {shape}, {layout}", file=sys.stderr)


def _models(config: StepConfig, step: Train) -> tuple[Path, Path | None]:
    """Folders of this machine with the model that is trained, and with the reference of a loss that has one."""
    compared_with = step.reference if step.loss.type in REFERENCE_LOSSES else None
    return locate_model(config, step.start), locate_model(config, compared_with) if compared_with is not None else None


def _notes_before(context: StepContext, step: Train, found: Examples) -> Iterator[str]:
    """What deserves a second look before the first step."""
    yield from second_look.on_batches(found.table.num_rows, step.settings.global_batch_size, step.rows)
    own = context.config.plan.sources.get("preferences")
    if own is not None:
        several = found.counts.get("severalTurns", 0)
        yield from second_look.on_turns("preferences", found.pairs, several, own.turn or "First")
    yield from second_look.on_left_out(found.pairs, found.dropped_overlong, found.truncated, step.rows)
    yield from second_look.on_emptied(found.table.num_rows, found.emptied)
    held = found.counts.get("promptHeldOut", 0)
    yield from second_look.on_held_out_pairs(found.pairs + held, held)


def _nodes(context: StepContext, head: str | None = None) -> Nodes:
    """The nodes of this training: those of the gang, whose head is at the address `head`, or this one alone."""
    gang, means = context.gang, context.config.means.training
    if gang is None:
        return Nodes()
    if gang.size != means.nodes:
        raise RuntimeError(f"a gang of {gang.size} pods is to train on {means.nodes} nodes")
    return Nodes(gang.size, gang.index, gang.address, head or gang.address, gang.port, _startup_seconds())


def _startup_seconds() -> int:
    """How long the nodes of a gang wait for one another."""
    return int(os.environ.get("SELFALIGN_STARTUP_SECONDS", "1800"))


class Listener:
    """Reads what rank 0 reports and shows it: as the step's progress, in its log, to Prometheus and to TensorBoard."""

    def __init__(self, work: Path, progress: Progress, events: Events) -> None:
        self._file = work / REPORT
        self._progress = progress
        self._events = events
        self._read = 0
        self._steps = 0  # of the training

    def poll(self) -> None:
        """Take in the lines that were written since the last call."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def close(self) -> None:
        """The ranks have ended."""
        self._events.close()

    def _take(self, message: dict[str, Json]) -> None:
        progress, metrics = self._progress, self._progress.metrics
        if "phase" in message:
            self._steps = message["total"]
            progress.begin(message["phase"], message["total"], message["unit"], done=message["done"])
        elif "places" in message:
            print(f"at most {message['places']:,} tokens a micro batch", file=sys.stderr, flush=True)
        elif "past" in message:
            self._events.add(points.of_log(message["past"], time.time()))
        elif "log" in message:
            row = message["log"]
            self._events.add(points.of_row(row, time.time()))
            progress.advance(int(row["step"]))
            print(line_of(row, self._steps), file=sys.stderr, flush=True)
            progress.show(**_speed(row), **_shown(row))
            metrics.tokens_per_second.set(row["tokens_per_second"])
            metrics.training.step(row)
            metrics.tokens.labels("train", "in").inc(row["tokens"])
        else:
            progress.advance(message["done"])


def line_of(row: dict[str, float], steps: int) -> str:
    """An optimiser step in the step's log."""
    shown = [f"{name} {value:.4f}" for name, value in _shown(row).items()]
    step = f"{row['tokens'] / row['tokens_per_second']:.2f} s"
    speed = f"{row['tokens_per_second']:,.0f} tokens/s ({row['computed_tokens_per_second']:,.0f} computed)"
    mfu = [f"MFU {100 * row['mfu']:.1f} %"] if "mfu" in row else []
    rate, norm = f"lr {row['learning_rate']:.2e}", f"gradient {row['gradient_norm']:.3g}"
    whole = f"{row['seconds'] / 60:.1f} min"
    return " | ".join([f"step {row['step']:.0f}/{steps}", *shown, rate, norm, step, speed, *mfu, whole])


def _speed(row: dict[str, float]) -> dict[str, float]:
    """Tokens of pairs and tokens that are computed, a second, and the share of the card's peak where that is known."""
    found = {
        "tokensPerSecond": row["tokens_per_second"],
        "computedTokensPerSecond": row["computed_tokens_per_second"],
    }
    return found | ({"mfu": row["mfu"]} if "mfu" in row else {})


def _shown(row: dict[str, float]) -> dict[str, float]:
    """What an objective's log has of loss, margin and accuracy."""
    return {name: row[name] for name in ("loss", "margin", "accuracy") if name in row}


def _gpus(means: TrainingMeans, asked: int) -> None:
    """ConfigError unless this node has the GPUs that are asked of it."""
    if means.device == "CPU":
        return
    check_driver()
    import torch

    there = torch.cuda.device_count()
    if asked > there or asked == 0:
        raise ConfigError.one(
            "spec.compute.training.gpusPerNode",
            f"{asked} GPUs are asked for (nodes × gpusPerNode), and torch sees {there} here; "
            + (f"write nodes: 1 and gpusPerNode: {there}" if there else "write compute.device: CPU"),
        )


def _resumable(found: checkpoint.Checkpoint | None, now: Shape, step: Train) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from. Raises ConfigError for one that cannot be put together for another shape."""
    if found is None or found.shape == now:
        return found
    bound = {"float16": "the loss scale of float16", "adafactor": "what adafactor keeps of a tensor"}
    kept = bound.get(step.settings.precision) or bound.get(step.settings.optimizer.type)
    if kept is None:
        print(f"goes on from {found.name}, saved by {found.shape}, on {now}", file=sys.stderr)
        return found
    raise ConfigError.one(
        "spec.compute.training",
        f"{found.name} was saved by {found.shape}, now there is {now}, and {kept} is of the former; write the former nodes, "
        "gpusPerNode, zeroStage and offload, or delete that folder to train from the beginning",
    )


@contextmanager
def _work_folder(context: StepContext) -> Iterator[Path]:
    """Scratch of this attempt on this node, beside the step's outputs where they are local.

    What killed attempts left there is removed; the other nodes' of this attempt is theirs.
    """
    if context.folder.local is None:
        with tempfile.TemporaryDirectory(prefix="selfalign-train-") as folder:
            yield Path(folder)
        return
    attempt = context.folder.local / "work" / str(context.config.attempt)
    for other in attempt.parent.glob("*"):
        if other != attempt:
            shutil.rmtree(other, ignore_errors=True)
    work = attempt / f"node-{context.gang.index if context.gang else 0}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(
    context: StepContext,
    step: Train,
    started: datetime,
    found: Examples,
    log: pa.Table,
    figures: dict[str, Json],
) -> Manifest:
    rows = log.to_pylist()
    last = rows[-1]
    chosen, new = (_became(context, step, rows, side) for side in ("chosen", "kept"))
    tokens, seconds = sum(row["tokens"] for row in rows), last["seconds"]
    result = {
        "steps": int(last["step"]),
        "pairs": found.table.num_rows,
        "pairsGiven": found.pairs,
        "droppedOverlong": found.dropped_overlong,
        "truncated": found.truncated,
        **({"emptied": found.emptied} if found.emptied else {}),
        **{name: found.counts[name] for name in OWN_COUNTS if found.counts.get(name)},
        **_shown(last),
        "tokensPerSecond": round(tokens / seconds, 1),
        "computedTokensPerSecond": round(sum(row["computed_tokens"] for row in rows) / seconds, 1),
        **({"mfu": round(_mfu(rows), 4)} if "mfu" in last else {}),
        **({"chosenLogProbability": chosen} if chosen else {}),
        **({"keptLogProbability": new} if new else {}),
        **figures,
    }
    return finish_manifest(
        context,
        step,
        started,
        active_seconds=round(seconds + sum(s for phase, s in figures["seconds"].items() if phase != "train"), 2),
        tables={"log": TableEntry(parts=(LOG_TABLE,), rows=log.num_rows)},
        model=MODEL,
        versions={name: version(name) for name in LIBRARIES},
        models=_lineage(context.config, step),
        tokens={"train": int(tokens)},
        result=result,
        notes=[
            *_notes_before(context, step, found),
            *second_look.on_log(rows),
            *(second_look.on_chosen(chosen["before"], chosen["after"]) if chosen else ()),
        ],
    )


def _became(context: StepContext, step: Train, rows: list[dict[str, float]], side: str) -> dict[str, float]:
    """Mean log-probability of one side's answers under the reference, and at the end; of losses with a reference.

    What a step's log has of it is their reward: β times by how much it rose, the mean over all pairs.
    """
    if (
        step.loss.type not in REFERENCE_LOSSES
        or f"rewards_{side}" not in rows[-1]
        or not context.folder.exists(REFERENCE)
    ):
        return {}
    given = context.folder.read_table(REFERENCE, columns=[side])[side].to_numpy()
    there = given[given != 0]  # a pair may have no kept answer
    if not len(there):
        return {}
    risen = statistics.fmean(row[f"rewards_{side}"] for row in second_look.last_quarter(rows)) / step.loss.beta
    before = float(there.mean())
    return {"before": round(before, 4), "after": round(before + risen * len(given) / len(there), 4)}


def _mfu(rows: list[dict[str, float]]) -> float:
    """That of all steps together: each counts as long as it took."""
    measured = [row for row in rows if row.get("mfu")]  # an attempt on another card may know no peak
    return statistics.harmonic_mean([row["mfu"] for row in measured], [row["flops"] for row in measured])


def _lineage(config: StepConfig, step: Train) -> dict[str, str]:
    """Digests of the models that were loaded, by lineage/iteration."""
    plan = config.plan

    def digest(model: ModelRef) -> str:
        trainer = plan.trainer_of(model)
        return plan.step_digest(trainer.name) if trainer else plan.models[model.lineage].digest

    loaded = [step.start] if step.reference is None else [step.start, step.reference]
    return {f"{model.lineage}/{model.iteration}": digest(model) for model in loaded}
