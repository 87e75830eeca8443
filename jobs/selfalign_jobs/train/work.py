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
from selfalign_jobs.machine import cpus_here
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train import policy, reference
from selfalign_jobs.train.batch import add_scoring_head
from selfalign_jobs.train.card import card
from selfalign_jobs.train.checkpoint import Checkpoint, fetch
from selfalign_jobs.train.dataset import order, sizes_of
from selfalign_jobs.train.export import export
from selfalign_jobs.train.job import EXAMPLES, LOG, MODEL, Job, Reporter
from selfalign_jobs.train.saving import Saving, agreed, together
from selfalign_jobs.train.settings import trl_arguments, uses_deepspeed
from selfalign_jobs.train.trainer import PreferenceTrainer


def work(job: Job, stop: threading.Event, began: float) -> dict[str, Json]:
    """Train one step's model; the result's figures, on every rank. `began`: time.monotonic() of the rank's start.

    Raises ConfigError before anything is loaded, Stopped when `stop` was set and what is done is saved.
    """
    transformers.utils.logging.disable_progress_bar()  # progress is reported, not drawn
    rank = Rank(job, stop)
    phases = Phases(began)
    phases.end("start")
    log_probs = rank.reference_log_probs()
    if log_probs is not None:
        phases.end("reference")
    trainer = rank.trainer(log_probs)
    saving = rank.saving(trainer)
    trainer.add_callback(saving)
    checkpoint = rank.job.resume
    resume = rank.fetched(checkpoint) if checkpoint else None
    rank.begin("train", rank.job.batches.steps, "steps", done=checkpoint.step if checkpoint else 0)
    if any(agreed(stop.is_set())):
        raise Stopped("stopped before the training began; the next attempt begins it")
    phases.end("load")
    trainer.train(resume_from_checkpoint=resume)
    if saving.stopped_at is not None:
        steps = f"step {saving.stopped_at} of {rank.job.batches.steps}"
        raise Stopped(f"stopped after {steps}; the next attempt goes on there")
    phases.end("train")
    rank.begin("export", 1, "models")
    rank.export(trainer)
    phases.end("export")
    return {"seconds": phases.seconds}


class Phases:
    """How long each phase took, in seconds."""

    def __init__(self, began: float) -> None:
        self.seconds: dict[str, Json] = {}
        self._last = began

    def end(self, phase: str) -> None:
        """The phase that ran since the last one ended has ended now."""
        now = time.monotonic()
        self.seconds[phase], self._last = round(now - self._last, 2), now


class Rank:
    """One rank's view of the job, and the parts that its work is made of."""

    def __init__(self, job: Job, stop: threading.Event) -> None:
        """Joins the process group where there are several ranks. Raises ConfigError for adapters that cannot be."""
        step = job.config.plan.step(job.config.step)
        assert isinstance(step, Train)
        self.step, self.stop = step, stop
        self.means = job.config.means.training
        self.deepspeed = uses_deepspeed(self.means)
        if self.means.device == "CPU":
            torch.set_num_threads(max(1, cpus_here() // int(os.environ["LOCAL_WORLD_SIZE"])))
        if self.deepspeed:
            _start_deepspeed(self.means.device)
        self.job = job = _agreed_job(job)
        self.folder = step_folder(Folder.open(job.config.storage), step.iteration, step.name)
        self.examples = pq.read_table(job.folder / EXAMPLES)
        self.source = job.config.plan.models[step.start.lineage]
        self.lora = (
            policy.lora_config(step.settings.lora, Path(job.start), remote_code=self.source.remote_code)
            if step.settings.lora
            else None
        )
        self.arguments = trl_arguments(step, self.means, job.batches, job.folder / "trainer")
        self.reporter = Reporter(job.folder) if self.arguments.process_index == 0 else None

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """Report a phase; rank 0 speaks for all."""
        if self.reporter is not None:
            self.reporter.phase(phase, total, unit, done)

    def reference_log_probs(self) -> np.ndarray | None:
        """The kept log-probabilities, else computed now with the reference alone in memory; None for losses without."""
        if self.job.reference is None:
            return None
        kept = reference.read(self.folder, self.examples)
        if not any(agreed(kept is None)):  # another node may not see yet what was written
            return kept
        self.begin("reference", self.examples.num_rows, "pairs")
        model = self._load(Path(self.job.reference))
        add_scoring_head(model)
        engine = policy.inference_engine(model, self.step.settings, self.means, self.job.batches)
        device, precision = self.arguments.device.type, self.step.settings.precision
        mixed = not self.deepspeed and precision != "float32"
        with torch.no_grad(), torch.autocast(device, policy.DTYPES[precision]) if mixed else nullcontext():
            found = reference.compute(
                engine,
                self.examples,
                micro_batch=self.job.batches.micro_batch,
                pad_id=model.config.get_text_config().pad_token_id or 0,
                device=device,
                ranks=self.job.batches.ranks,
                rank=self.arguments.process_index,
                stop_asked=self.stop.is_set,
                on_progress=self.reporter.advance if self.reporter is not None else _nobody,
            )
        if self.reporter is not None:
            reference.write(self.folder, self.examples, found)
        del model, engine
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        return found

    def trainer(self, log_probs: np.ndarray | None) -> PreferenceTrainer:
        """The trainer with the policy loaded."""
        batches, seed = self.job.batches, self.step.settings.seed
        return PreferenceTrainer(
            model=self._load(Path(self.job.start)),
            args=self.arguments,
            examples=self.examples,
            positions=order(sizes_of(self.examples), batches.steps, batches.global_batch, seed),
            loss=self.step.loss,
            reference=log_probs,
            lora=self.lora,
            on_log=self.reporter.log if self.reporter is not None else _nobody,
        )

    def saving(self, trainer: PreferenceTrainer) -> Saving:
        """When it saves and stops."""
        return Saving(
            stop=self.stop,
            folder=self.folder,
            attempt=self.job.config.attempt,
            zero_stage=self.means.zero_stage if self.deepspeed else None,
            interval_seconds=self.means.checkpoint_interval_seconds,
            keep=self.means.keep_checkpoints,
            on_begin=trainer.start_clock,
        )

    def fetched(self, checkpoint: Checkpoint) -> str:
        """The folder of a checkpoint on this node, whose first rank fetches it."""
        first = self.arguments.local_process_index == 0
        found = together(lambda: fetch(self.folder, checkpoint, self.job.folder) if first else None)
        return str(found[self.arguments.process_index - self.arguments.local_process_index])

    def export(self, trainer: PreferenceTrainer) -> None:
        """Write model and training log to the work folder; the program publishes them."""
        rows = trainer.state.log_history
        export(
            trainer,
            Path(self.job.start),
            self.job.folder / MODEL,
            remote_code=self.source.remote_code,
            chat_template=self.source.chat_template,
            card=card(self.job.config.plan, self.step, rows, self.examples.num_rows),
        )
        if self.reporter is not None:
            pq.write_table(pa.Table.from_pylist(rows), self.job.folder / LOG)

    def _load(self, folder: Path) -> Any:
        dtype = policy.training_dtype(self.step.settings, self.deepspeed)
        return policy.load(folder, dtype, remote_code=self.source.remote_code)


def _agreed_job(job: Job) -> Job:
    """The job with what rank 0's node found: another may have other memory free, or an older view of the store."""
    if not torch.distributed.is_initialized():
        return job
    found: list[Any] = [job.batches, job.resume]
    device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.distributed.get_backend() == "nccl" else None
    torch.distributed.broadcast_object_list(found, device=device)
    return job.model_copy(update={"batches": found[0], "resume": found[1]})


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
