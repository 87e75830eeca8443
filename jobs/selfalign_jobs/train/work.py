"""What a rank does: reference log-probabilities, training from the newest checkpoint, export."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from selfalign_api.plan import Json, Train
from selfalign_jobs.step import Stopped
from selfalign_jobs.store import Folder, step_folder
from selfalign_jobs.train import policy, reference
from selfalign_jobs.train.batch import add_scoring_head
from selfalign_jobs.train.card import card
from selfalign_jobs.train.dataset import order, sizes_of
from selfalign_jobs.train.export import export
from selfalign_jobs.train.job import EXAMPLES, LOG, MODEL, Job, Reporter
from selfalign_jobs.train.saving import Saving, agreed
from selfalign_jobs.train.settings import trl_arguments, uses_deepspeed
from selfalign_jobs.train.trainer import PreferenceTrainer


def work(job: Job, stop: threading.Event, began: float) -> dict[str, Json]:
    """Train one step's model; the result's figures, on every rank. Raises Stopped, ConfigError."""
    step = job.config.plan.step(job.config.step)
    assert isinstance(step, Train)
    means = job.config.means.training
    source = job.config.plan.models.get(step.start.lineage)
    remote_code = source is not None and source.remote_code
    deepspeed = uses_deepspeed(means)
    transformers.utils.logging.disable_progress_bar()  # progress is reported, not drawn
    if means.device == "CPU":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"])))
    if deepspeed:
        _start_deepspeed(means.device)
    folder = step_folder(Folder.open(job.config.storage), step.iteration, step.name)
    examples = pq.read_table(job.folder / EXAMPLES)
    lora = (
        policy.lora_config(step.settings.lora, Path(job.start), remote_code=remote_code) if step.settings.lora else None
    )
    arguments = trl_arguments(step, means, job.batches, job.folder / "trainer")
    device = arguments.device.type  # joins the process group
    reporter = Reporter(job.folder) if arguments.process_index == 0 else None
    seconds = {"start": time.monotonic() - began}

    log_probs = None
    if job.reference is not None:
        log_probs = _reference(
            job, step, folder, examples, stop, reporter, device, arguments.process_index, remote_code=remote_code
        )
        seconds["reference"] = time.monotonic() - began - sum(seconds.values())

    batches = job.batches
    trainer = PreferenceTrainer(
        model=policy.load(
            Path(job.start), policy.training_dtype(step.settings.precision, deepspeed), remote_code=remote_code
        ),
        args=arguments,
        examples=examples,
        positions=order(sizes_of(examples), batches.steps, batches.global_batch, step.settings.seed),
        loss=step.loss,
        reference=log_probs,
        lora=lora,
        on_log=reporter.log if reporter is not None else _nobody,
    )
    saving = Saving(
        stop=stop,
        folder=folder,
        attempt=job.config.attempt,
        zero_stage=means.zero_stage if deepspeed else None,
        interval_seconds=means.checkpoint_interval_seconds,
        keep=means.keep_checkpoints,
        on_begin=trainer.start_clock,
    )
    trainer.add_callback(saving)
    if reporter is not None:
        reporter.phase("train", batches.steps, "steps", done=job.resume_step)
    if any(agreed(stop.is_set())):
        raise Stopped("stopped before the training began; the next attempt begins it")
    seconds["load"] = time.monotonic() - began - sum(seconds.values())
    trainer.train(resume_from_checkpoint=job.resume)
    if saving.stopped_at is not None:
        raise Stopped(f"stopped after step {saving.stopped_at} of {batches.steps}; the next attempt goes on there")
    seconds["train"] = time.monotonic() - began - sum(seconds.values())

    rows = trainer.state.log_history
    if reporter is not None:
        reporter.phase("export", 1, "models")
    export(
        trainer,
        Path(job.start),
        job.folder / MODEL,
        remote_code=remote_code,
        chat_template=source.chat_template if source is not None else None,
        card=card(job.config.plan, step, rows, examples.num_rows),
    )
    if reporter is not None:
        pq.write_table(pa.Table.from_pylist(rows), job.folder / LOG)
    seconds["export"] = time.monotonic() - began - sum(seconds.values())
    return {"seconds": {name: round(value, 2) for name, value in seconds.items()}}


def _reference(
    job: Job,
    step: Train,
    folder: Folder,
    examples: pa.Table,
    stop: threading.Event,
    reporter: Reporter | None,
    device: str,
    rank: int,
    *,
    remote_code: bool,
) -> np.ndarray:
    """The kept log-probabilities, else computed now with the reference alone in memory."""
    kept = reference.read(folder, examples)
    if kept is not None:
        return kept
    if reporter is not None:
        reporter.phase("reference", examples.num_rows, "pairs")
    means, precision = job.config.means.training, step.settings.precision
    deepspeed = uses_deepspeed(means)
    assert job.reference is not None
    model = policy.load(Path(job.reference), policy.training_dtype(precision, deepspeed), remote_code=remote_code)
    add_scoring_head(model)
    engine = policy.inference_engine(model, step.settings, means, job.batches)
    autocast = (
        torch.autocast(device, policy.DTYPES[precision]) if not deepspeed and precision != "float32" else nullcontext()
    )
    with torch.no_grad(), autocast:
        found = reference.compute(
            engine,
            examples,
            micro_batch=job.batches.micro_batch,
            pad_id=model.config.get_text_config().pad_token_id or 0,
            device=device,
            ranks=job.batches.ranks,
            rank=rank,
            stop_asked=stop.is_set,
            on_progress=reporter.advance if reporter is not None else _nobody,
        )
    if reporter is not None:
        reference.write(folder, examples, found)
    del model, engine
    gc.collect()
    if means.device == "GPU":
        torch.cuda.empty_cache()
    return found


def _nobody(_: Any) -> None:
    """Ranks but the first report nothing."""


def _start_deepspeed(device: str) -> None:
    """Join the process group before a model is made: ZeRO-3 shards it as it is loaded, over the ranks it knows of then."""
    import deepspeed
    import deepspeed.ops

    if device == "CPU":
        # Else it compiles a shared-memory all-reduce at its first start; gloo does it without a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo" if device == "CPU" else "nccl", verbose=False)
