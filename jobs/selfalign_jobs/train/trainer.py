"""Training on transformers' Trainer: its optimiser, DeepSpeed handling and resume; our steps, objectives, log and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from selfalign_api.errors import ConfigError, refused_as
from selfalign_jobs.step.second_look import dead_steps, has_collapsed
from selfalign_jobs.train import elastic
from selfalign_jobs.train.batch import MicroBatch
from selfalign_jobs.train.flops import Work, peak_flops
from selfalign_jobs.train.loader import StepBatch, Steps, step_loader
from selfalign_jobs.train.objectives import Objective, Scored
from selfalign_jobs.train.scoring import answer_scores
from selfalign_jobs.train.settings import Shape

LogRow = dict[str, float]
# Means over examples, of objectives that have them.
FIGURES = ("rewards_chosen", "rewards_rejected", "accuracy", "rewards_kept")
SUMS = ("loss", *FIGURES, "examples", "targets", "tokens", "places", "flops")


class StepTrainer(transformers.Trainer):
    """Trainer for objectives of ours over token ids; an item of its loader is an optimiser step of this rank."""

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        steps: Steps,
        objective: Objective,
        on_log: Callable[[LogRow], None],
    ) -> None:
        """`model` has a scoring head (scoring.py). `on_log` gets a row an optimiser step, on rank 0."""
        self.objective, self.on_log = objective, on_log
        super().__init__(model=model, args=args, train_dataset=steps)
        self._reference: Tensor | None = None
        self._other: Shape | None = None
        self._sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.args.device)
        self._step_began = time.monotonic()
        self._seconds = 0.0
        half = self.args.device.type == "cuda" and (
            args.bf16 or args.fp16
        )  # of other precisions no peak is in the table
        self._peak_flops = peak_flops(torch.cuda.get_device_name(self.args.device)) if half else None
        self._work = Work.of(model)
        self._shown: tuple[str, ...] = ()  # the figures of this objective
        self.remove_callback(transformers.PrinterCallback)

    def take_reference(self, log_probs: np.ndarray) -> None:
        """Log-probabilities of each answer under the reference, (examples, answers): before the first step."""
        # In float32 whatever the precision.
        self._reference = torch.tensor(log_probs, dtype=torch.float32, device=self.args.device)

    def take_over(self, other: Shape) -> None:
        """What is resumed from was saved by another shape than this one: it is put together anew (elastic.py)."""
        self._other = other

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        if self._other is None:
            elastic.load_weights(self.model, Path(resume_from_checkpoint))

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        as_it_lies = resume_from_checkpoint if self._other is None else None
        prepared = super()._prepare_for_training(max_steps, train_dataloader, as_it_lies)
        if self._other is not None and resume_from_checkpoint is not None:
            elastic.take_over(self, Path(resume_from_checkpoint), self._other)
        return prepared

    def get_train_dataloader(self) -> DataLoader[StepBatch]:
        """All steps of this rank, in the fixed order: the training is one pass over them."""
        arguments = self.args
        return step_loader(
            self.train_dataset,
            workers=arguments.dataloader_num_workers,
            prefetch=arguments.dataloader_prefetch_factor,
            pin_memory=arguments.dataloader_pin_memory,
        )

    def floating_point_ops(self, inputs: object) -> int:  # noqa: ARG002
        """Not counted here: trainings count tokens."""
        return 0

    def get_batch_samples(
        self,
        epoch_iterator: Any,
        num_batches: int,
        device: torch.device,  # noqa: ARG002
    ) -> tuple[list[StepBatch], None]:
        """One item; it says itself how many examples the step has."""
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def training_step(self, model: Any, inputs: StepBatch, num_items_in_batch: object = None) -> Tensor:  # noqa: ARG002
        """Gradients of the mean over the step's examples or targets; DeepSpeed takes its step with the last micro batch."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        # DeepSpeed averages gradients over ranks, and nothing else divides them.
        over = inputs.examples if self.objective.mean_over == "examples" else inputs.targets
        share = self.accelerator.num_processes / over
        for number, micro in enumerate(inputs.micro, 1):
            self.accelerator.gradient_state._set_sync_gradients(number == len(inputs.micro))
            with self.compute_loss_context_manager():
                loss = self._summed_loss(model, micro.to(self.args.device)) * share
            self._backward(loss)
            total += loss.detach()
        return total

    def rehearse(self, micro: MicroBatch) -> None:
        """Forward and backward as in a step, of a loss that is 0: no gradient but 0 is left behind, no step taken or counted."""
        model = self.model_wrapped
        model.train()
        self.accelerator.gradient_state._set_sync_gradients(False)
        with self.compute_loss_context_manager():
            loss = answer_scores(model, micro.to(self.args.device)).sum() * 0
        self._backward(loss)

    def _backward(self, loss: Tensor) -> None:
        options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **options)

    def _summed_loss(self, model: Any, micro: MicroBatch) -> Tensor:
        scores = answer_scores(model, micro)
        reference = None if self._reference is None else self._reference[micro.examples]
        found = self.objective.score(Scored(scores, micro.answer_lengths, reference))
        none = torch.zeros_like(found.loss, dtype=torch.float32)
        columns = [found.loss.detach(), *(found.figures.get(name, none) for name in FIGURES)]
        self._sums[: len(columns)] += torch.stack([column.float() for column in columns]).sum(dim=1)
        counts = (len(found.loss), len(micro.targets), micro.tokens, micro.places, self._work.flops(micro))
        self._sums[len(columns) :] += torch.tensor(counts, dtype=torch.float64).to(self._sums.device, non_blocking=True)
        self._shown = tuple(found.figures)
        return found.loss.sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:  # noqa: ARG002
        """One row an optimiser step, from one reduction and one synchronisation; Trainer's closing summary is not kept.

        Raises ConfigError, on all ranks, for a loss or a gradient that is not a number: nothing would come of going on.
        (DeepSpeed skips such a step. With float16 that is how its loss scale is found.)
        """
        if "learning_rate" not in logs:
            return
        now = time.monotonic()
        seconds, self._step_began = now - self._step_began, now
        self._seconds += seconds
        sums = dict(zip(SUMS, self.accelerator.reduce(self._sums, reduction="sum").tolist(), strict=True))
        self._sums.zero_()
        mean = {name: sums[name] / sums["examples"] for name in self._shown}
        mean["loss"] = sums["loss"] / sums[self.objective.mean_over]
        gradient_norm = logs.get("grad_norm", float("nan"))
        odd = [("loss", mean["loss"])]
        if "grad_norm" in logs and not self.args.fp16:
            odd.append(("gradient", gradient_norm))
        for what, value in odd:
            if not math.isfinite(value):
                with refused_as("TrainingDiverged"):
                    raise ConfigError.one(
                        "spec.training.learningRate",
                        f"the training diverged: the {what} of step {self.state.global_step} is {value}; write a lower one",
                        self.args.learning_rate,
                    )
        row = {
            "step": self.state.global_step,
            **mean,
            "learning_rate": logs["learning_rate"],
            "gradient_norm": gradient_norm,
            "tokens": sums["tokens"],
            "computed_tokens": sums["places"],
            "tokens_per_second": sums["tokens"] / seconds,
            "computed_tokens_per_second": sums["places"] / seconds,
            "flops": sums["flops"],
            "seconds": self._seconds,
        }
        if self._peak_flops is not None:
            row["mfu"] = sums["flops"] / seconds / (self._peak_flops * self.accelerator.num_processes)
        if "rewards_chosen" in mean:
            row["margin"] = mean["rewards_chosen"] - mean["rewards_rejected"]
        self.state.log_history.append(row)
        if has_collapsed(self.state.log_history):
            with refused_as("TrainingDiverged"):
                raise ConfigError.one(
                    "spec.training.learningRate",
                    f"the training collapsed: from step {self.state.global_step + 1 - dead_steps(self.state.log_history)} on "
                    "the gradient is 0 and pairs are ordered wrong; write a lower one",
                    self.args.learning_rate,
                )
        if self.is_world_process_zero():
            self.on_log(row)

    def start_clock(self) -> None:
        """Training begins, or goes on after the seconds that the log already counts."""
        self._seconds = self.state.log_history[-1]["seconds"] if self.state.log_history else 0.0
        self._step_began = time.monotonic()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """With a checkpoint DeepSpeed writes all that it resumes from; without it the trained weights are kept, by name."""
        if not _internal_call:
            super().save_model(output_dir)
        elif not self.is_deepspeed_enabled and output_dir is not None:
            elastic.save_weights(self.model, Path(output_dir))
