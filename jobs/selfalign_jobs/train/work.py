"""What a rank does: reference log-probabilities, training from the newest checkpoint, export."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from transformers import AutoConfig

from selfalign_api.plan import Train
from selfalign_api.plan_values import Json
from selfalign_jobs.machine import cpus_here
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train import policy, reference
from selfalign_jobs.train.attention import FLEX_MULTIPLE
from selfalign_jobs.train.batch import MicroBatch
from selfalign_jobs.train.card import card
from selfalign_jobs.train.checkpoint import Checkpoint, fetch
from selfalign_jobs.train.dataset import TokenIds, lengths_of, mapped_examples
from selfalign_jobs.train.export import export
from selfalign_jobs.train.job import EXAMPLES, LOG, MODEL, Job, Reporter
from selfalign_jobs.train.loader import Steps, collator
from selfalign_jobs.train.objectives import objective_of
from selfalign_jobs.train.oracle import hold_to_oracle
from selfalign_jobs.train.probe import Bounds, CudaGauge, agreed_places, dummies, measured_places, states_to_come
from selfalign_jobs.train.saving import Saving, agreed, awaited, together
from selfalign_jobs.train.scoring import add_reward_head, add_scoring_head, answer_scores
from selfalign_jobs.train.settings import shape_of, threads_of, trainer_arguments, uses_deepspeed
from selfalign_jobs.train.steps import Layout, lowest_budget, order, places_of
from selfalign_jobs.train.trainer import StepTrainer


def work(job: Job, stop: threading.Event, began: float) -> dict[str, Json]:
    """Train one step's model; the result's figures, on every rank. `began`: time.monotonic() of the rank's start.

    Raises ConfigError before anything is loaded, Stopped when `stop` was set and what is done is saved.
    """
    transformers.utils.logging.disable_progress_bar()  # progress is reported, not drawn
    rank = Rank(job, stop)
    phases = Phases(began)
    phases.end("start")
    log_probs = rank.kept_reference() if rank.job.reference is not None else None
    if rank.job.reference is not None and log_probs is None and not rank.scores_itself:
        log_probs = rank.computed_reference()
        phases.end("reference")
    trainer = rank.trainer()
    if log_probs is not None:
        trainer.take_reference(log_probs)

    def on_begin() -> None:
        """The engine is there, and no step is taken yet."""
        rank.settle_budget(trainer)
        if rank.job.reference is not None and log_probs is None:
            phases.end("load")
            trainer.take_reference(rank.own_reference(trainer))
            phases.end("reference")
            rank.begin("train", rank.job.batches.steps, "steps")
        trainer.start_clock()
        if rank.reporter is not None:
            rank.reporter.past(trainer.state.log_history)

    saving = rank.saving(on_begin)
    trainer.add_callback(saving)
    checkpoint = rank.job.resume
    resume = rank.fetched(checkpoint) if checkpoint else None
    if checkpoint is not None and checkpoint.shape != rank.shape:
        trainer.take_over(checkpoint.shape)
    rank.begin("train", rank.job.batches.steps, "steps", done=checkpoint.step if checkpoint else 0)
    if any(agreed(stop.is_set())):
        raise Stopped("stopped before the training began; the next attempt begins it")
    if log_probs is not None or rank.job.reference is None:
        phases.end("load")
    trainer.train(resume_from_checkpoint=resume)
    if saving.stopped_at is not None:
        steps = f"step {saving.stopped_at} of {rank.job.batches.steps}"
        raise Stopped(f"stopped after {steps}; the next attempt goes on there")
    phases.end("train")
    rank.begin("export", 1, "models")
    rank.export(trainer)
    phases.end("export")
    stage = {} if rank.zero_stage is None else {"zeroStage": rank.zero_stage}
    return {"seconds": phases.seconds, "attention": rank.kernel, "microBatchTokens": rank.budget, **stage}


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
        if (threads := threads_of(self.means, cpus_here(), int(os.environ["LOCAL_WORLD_SIZE"]))) is not None:
            torch.set_num_threads(threads)
        if uses_deepspeed(self.means):
            _start_deepspeed(self.means.device)
        self.job = job = _agreed_job(job)
        self.zero_stage, self.shape = job.zero_stage, shape_of(self.means, job.zero_stage)
        self.folder = step_folder(Folder.open(job.config.storage), step.iteration, step.name)
        self.examples = mapped_examples(job.folder / EXAMPLES)
        self.source = job.config.plan.given(step.start)
        self.objective = objective_of(step.loss)
        rewards = self.objective.reads.rewards
        self.lora = (
            policy.lora_config(
                step.settings.lora, Path(job.start), remote_code=self.source.remote_code, rewards=rewards
            )
            if step.settings.lora
            else None
        )
        self.arguments = trainer_arguments(step, self.means, job.batches.steps, job.folder / "trainer", self.zero_stage)
        self.device = self.arguments.device
        self.dtype = policy.training_dtype(step.settings, deepspeed=self.zero_stage is not None)
        self.kernel = policy.kernel(Path(job.start), job.batches.packed, self.device.type, step.settings.precision)
        multiple = FLEX_MULTIPLE if "flex" in self.kernel else 1
        self.layout = Layout(job.batches.packed, rewards)
        self.collate = collator(self.layout, self.examples.num_columns - 1, multiple=multiple)
        self.reporter = Reporter(job.folder) if self.arguments.process_index == 0 else None
        self.lengths = lengths_of(self.examples)
        settings = step.settings
        self.order = order(len(self.lengths), settings.epochs, settings.global_batch_size, settings.seed)
        self.budget = job.batches.budget

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """Report a phase; rank 0 speaks for all."""
        if self.reporter is not None:
            self.reporter.phase(phase, total, unit, done)

    @property
    def scores_itself(self) -> bool:
        """Whether the policy is its own reference: before its first step, where that is the model it starts from."""
        return self.job.reference == self.job.start and self.job.resume is None

    def kept_reference(self) -> np.ndarray | None:
        """The log-probabilities that an earlier attempt kept."""
        kept = awaited(lambda: reference.read(self.folder, self.examples, self.kernel)).result()
        missing = any(agreed(kept is None))  # another node may not see yet what was written
        return None if missing else kept

    def computed_reference(self) -> np.ndarray:
        """Computed now, with the reference alone in memory."""
        assert self.job.reference is not None
        model, settings = self._load(Path(self.job.reference)), self.step.settings
        engine = policy.inference_engine(model, settings, self.means, self.zero_stage)
        del model
        precision = settings.precision
        mixed = self.zero_stage is None and precision != "float32"
        with torch.autocast(self.device.type, policy.DTYPES[precision]) if mixed else nullcontext():
            found = self._scored(engine)
        policy.release(engine)
        del engine
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return found

    def own_reference(self, trainer: StepTrainer) -> np.ndarray:
        """Computed by the policy's own engine."""
        assert self.budget is not None
        with trainer.compute_loss_context_manager():
            return self._scored(trainer.model_wrapped, self.budget)

    def settle_budget(self, trainer: StepTrainer) -> None:
        """Give the trainer its places of a micro batch: those that were asked for, or measured on the engine that is there."""
        if self.budget is None:
            to_come = states_to_come(trainer.optimizer, self.device)
            places = self._measured(trainer.rehearse, reserved=to_come)
            self.budget = lowest_budget(self.lengths, self.order, self.job.batches.ranks, places, self.layout)
        trainer.train_dataset.budget = self.budget
        if self.reporter is not None:
            self.reporter.micro_batches(self.budget)

    def _measured(self, run: Callable[[MicroBatch], object], reserved: int = 0) -> int:
        """Places of a micro batch that every rank has room for, and at least the largest example."""
        ranks, ids = self.job.batches.ranks, TokenIds(self.examples)
        places = places_of(self.lengths, self.layout)
        bounds = Bounds(int(places.max()), max(-(-int(places[rows].sum()) // ranks) for rows in self.order))
        prompt, answers = ids[int(places.argmax())]
        rehearsed = dummies(np.concatenate([prompt, *answers]), len(answers), bounds, self.layout, self.collate)
        own = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(own):  # adapters' dropout draws as if nothing had been
            mine = measured_places(run, rehearsed, CudaGauge(), reserved)
        return agreed_places(together(lambda: mine), bounds.largest)

    def _scored(self, engine: Any, budget: int | None = None) -> np.ndarray:
        engine.eval()
        with torch.no_grad():
            if budget is None:
                budget = self.budget or self._measured(lambda micro: answer_scores(engine, micro.to(self.device)))
            self.begin("reference", self.examples.num_rows, "pairs")
            found = reference.compute(
                engine,
                self.examples,
                collate=self.collate,
                budget=budget,
                layout=self.layout,
                device=self.device,
                ranks=self.job.batches.ranks,
                rank=self.arguments.process_index,
                stop_asked=self.stop.is_set,
                on_progress=self.reporter.advance if self.reporter is not None else _nobody,
            )
        first = self.reporter is not None
        awaited(lambda: reference.write(self.folder, self.examples, self.kernel, found) if first else None).result()
        return found

    def trainer(self) -> StepTrainer:
        """The trainer with the policy loaded."""
        batches, settings = self.job.batches, self.step.settings
        if self.device.type == "cuda" and batches.packed:
            config = AutoConfig.from_pretrained(self.job.start, trust_remote_code=self.source.remote_code)
            hold_to_oracle(config.get_text_config(), "cuda", policy.DTYPES[settings.precision])
        transformers.set_seed(self.arguments.seed)  # adapters, and a reward's head, begin at random
        model = self._load(Path(self.job.start))
        if self.lora is not None:
            model = policy.with_adapters(
                model,
                self.lora,
                zero_stage=self.zero_stage,
                checkpointing=self.arguments.gradient_checkpointing,
            )
        return StepTrainer(
            model=model,
            args=self.arguments,
            steps=Steps(
                TokenIds(self.examples),
                self.lengths,
                self.order,
                ranks=batches.ranks,
                rank=self.arguments.process_index,
                budget=self.budget,
                layout=self.layout,
                collate=self.collate,
            ),
            objective=self.objective,
            on_log=self.reporter.log if self.reporter is not None else _nobody,
        )

    def saving(self, on_begin: Callable[[], None]) -> Saving:
        """When it saves and stops."""
        return Saving(
            stop=self.stop,
            folder=self.folder,
            attempt=self.job.config.attempt,
            shape=self.shape,
            interval_seconds=self.means.checkpoint_interval_seconds,
            keep=self.means.keep_checkpoints,
            on_begin=on_begin,
        )

    def fetched(self, checkpoint: Checkpoint) -> str:
        """The folder of a checkpoint on this node, whose first rank fetches it."""
        first = self.arguments.local_process_index == 0
        found = together(awaited(lambda: fetch(self.folder, checkpoint, self.job.folder) if first else None).result)
        return str(found[self.arguments.process_index - self.arguments.local_process_index])

    def export(self, trainer: StepTrainer) -> None:
        """Write model and training log to the work folder; the program publishes them."""
        rows = trainer.state.log_history
        export(
            trainer,
            Path(self.job.start),
            self.job.folder / MODEL,
            base=self.source.url if self.step.start.iteration == 0 else None,
            remote_code=self.source.remote_code,
            chat_template=self.source.chat_template,
            rewards=self.layout.rewards,
            card=lambda adapter: card(self.job.config.plan, self.step, rows, self.examples.num_rows, adapter=adapter),
        )
        if self.reporter is not None:
            pq.write_table(pa.Table.from_pylist(rows), self.job.folder / LOG)

    def _load(self, folder: Path) -> Any:
        """A model that scores targets or gives rewards, without dropout."""
        layout = self.layout
        model = policy.load(
            folder, self.dtype, remote_code=self.source.remote_code, packed=layout.packed, rewards=layout.rewards
        )
        policy.without_dropout(model)
        (add_reward_head if layout.rewards else add_scoring_head)(model)
        return model


def _agreed_job(job: Job) -> Job:
    """The job with what rank 0's node found: another may have other memory free, or an older view of the store.

    Of the ZeRO stages the highest, which fits every node; a checkpoint of these ranks goes on at its own.
    """
    if not torch.distributed.is_initialized():
        return job
    if torch.distributed.get_backend() == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    found = together(lambda: (job.batches, job.resume, job.zero_stage))
    batches, resume, stage = found[0]
    if resume is None or resume.shape != shape_of(job.config.means.training, stage):
        stage = max(of_rank or 0 for _, _, of_rank in found)
    return job.model_copy(update={"batches": batches, "resume": resume, "zero_stage": stage})


def _nobody(_: Any) -> None:
    """Ranks but the first report nothing."""


def _start_deepspeed(device: str) -> None:
    """Join the process group before a model is made: ZeRO-3 shards it as it is loaded, over the ranks it knows of then."""
    import deepspeed
    import deepspeed.ops

    if device == "CPU":
        # Else it compiles a shared-memory all-reduce at its first start; gloo does it without a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Longer than a rank may work alone between two collectives: loading a model, gathering and writing it.
    timeout = timedelta(minutes=60)
    deepspeed.init_distributed(dist_backend="gloo" if device == "CPU" else "nccl", timeout=timeout, verbose=False)
