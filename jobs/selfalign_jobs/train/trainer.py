"""Preference training on TRL's DPOTrainer: its model, optimiser and DeepSpeed handling; our data, losses, log and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from selfalign_api.errors import ConfigError, refused_as
from selfalign_api.plan import Loss
from selfalign_jobs.step.second_look import dead_steps, has_collapsed
from selfalign_jobs.train.batch import PairCollator, add_scoring_head, response_log_probs
from selfalign_jobs.train.dataset import RankBatches
from selfalign_jobs.train.losses import LOSSES, PairLogProbs

LogRow = dict[str, float]
SUMS = ("loss", "rewards_chosen", "rewards_rejected", "accuracy", "pairs", "tokens")


class IdsOnly(PreTrainedTokenizerBase):
    """What TRL gets for a tokenizer: it knows the padding id and refuses to tokenise, since pairs carry ids."""

    def __init__(self, pad_id: int) -> None:
        """`pad_id` is masked wherever it stands: any id of the vocabulary does."""
        super().__init__()
        self._pad_id = pad_id

    pad_token = "<pad>"

    @property
    def pad_token_id(self) -> int:
        """The id that fills up sequences."""
        return self._pad_id

    def __call__(self, *_: object, **__: object) -> Any:
        """Refuse."""
        raise RuntimeError("pairs are trained on as token ids: nothing is tokenised in training")


class PreferenceTrainer(DPOTrainer):
    """DPOTrainer for losses of ours over pairs of token ids; reference log-probabilities come from a table."""

    def __init__(
        self,
        *,
        model: Any,
        args: DPOConfig,
        examples: pa.Table,
        positions: np.ndarray,
        loss: Loss,
        reference: np.ndarray | None,
        lora: LoraConfig | None,
        on_log: Callable[[LogRow], None],
    ) -> None:
        """`positions`: which example stands at each position of the training (dataset.order).

        `reference`: float64 of shape (examples, 2), log-probabilities of chosen and rejected; None for losses without.
        `on_log` gets a row an optimiser step, on rank 0.
        """
        self.loss, self.on_log, self.positions = loss, on_log, positions
        pad_id = model.config.get_text_config().pad_token_id or 0
        indexed = examples.append_column("pair", pa.array(np.arange(examples.num_rows)))
        with _no_weight_hash():
            super().__init__(
                model=model,
                args=args,
                data_collator=PairCollator(pad_id),
                train_dataset=Dataset(indexed),
                processing_class=IdsOnly(pad_id),
                peft_config=lora,
            )
        self.processing_class = None  # else every checkpoint would hold a copy of it
        # Only the log-probabilities: TRL's head also computes entropies and mean logits, for metrics that we do not show.
        add_scoring_head(self.model.get_base_model() if lora is not None else self.model)
        device = self.accelerator.device
        # In float32 whatever the precision: Trainer would cast them to DeepSpeed's 16 bits if they travelled in batches.
        self.reference = None if reference is None else torch.tensor(reference, dtype=torch.float32, device=device)
        self._sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
        self._step_began = time.monotonic()
        self._seconds = 0.0
        self.remove_callback(transformers.PrinterCallback)

    def _send_telemetry(self) -> None:
        """TRL reports model and cluster to its hub; this program reports to nobody."""

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "chosen_ids", "rejected_ids", "pair"]

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All micro batches of this rank, in the fixed order: the training is one pass over them."""
        batches = RankBatches(
            self.positions,
            self.args.per_device_train_batch_size,
            self.accelerator.num_processes,
            self.accelerator.process_index,
        )
        return DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        if return_outputs:
            raise RuntimeError("training has no evaluation loop that would want logits")
        summed, length = response_log_probs(model, inputs)
        chosen, rejected = summed.chunk(2)
        chosen_length, rejected_length = length.chunk(2)
        reference = None if self.reference is None else self.reference[inputs["pair"]]
        pairs = PairLogProbs(
            chosen,
            rejected,
            chosen_length,
            rejected_length,
            None if reference is None else reference[:, 0],
            None if reference is None else reference[:, 1],
        )
        result = LOSSES[self.loss.type](pairs, self.loss)
        if model.training:
            right = (result.chosen_rewards > result.rejected_rewards).float()
            columns = (
                result.loss.detach(),
                result.chosen_rewards,
                result.rejected_rewards,
                right,
                torch.ones_like(right),
            )
            self._sums[:-1] += torch.stack(columns).sum(dim=1)
            self._sums[-1] += inputs["tokens"]
        return result.loss.mean()

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
        mean = {name: sums[name] / sums["pairs"] for name in SUMS[:4]}
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
            "loss": mean["loss"],
            "learning_rate": logs["learning_rate"],
            "margin": mean["rewards_chosen"] - mean["rewards_rejected"],
            "accuracy": mean["accuracy"],
            "rewards_chosen": mean["rewards_chosen"],
            "rewards_rejected": mean["rewards_rejected"],
            "gradient_norm": gradient_norm,
            "tokens": sums["tokens"],
            "tokens_per_second": sums["tokens"] / seconds,
            "seconds": self._seconds,
        }
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

    def _save_checkpoint(self, model: Any, trial: object) -> None:
        # Trainer's own: TRL's writes a model card beside each checkpoint.
        transformers.Trainer._save_checkpoint(self, model, trial)


@contextmanager
def _no_weight_hash() -> Iterator[None]:
    """DPOTrainer hashes every weight to name its cache of reference log-probabilities, which is not used here."""
    original = dpo_trainer.hash_module
    dpo_trainer.hash_module = lambda _: ""
    try:
        yield
    finally:
        dpo_trainer.hash_module = original
