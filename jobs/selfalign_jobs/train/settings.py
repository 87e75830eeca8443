"""From the plan's settings and means to numbers: ranks and batches, the trainer's arguments, DeepSpeed's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Train
from selfalign_api.plan_values import Frozen
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training import Stage
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.train.steps import Layout, places_of, step_count

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "rmsprop": "rmsprop", "adafactor": "adafactor"}
OBJECTIVE_LOSSES = {
    "preference": ("dpo", "ipo", "simpo", "orpo", "hinge", "selm"),
    "sft": ("sft",),
    "reward": ("bradley-terry",),
    "gap": ("gap",),
}
PAIR_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
GAP_PAIRS = (("chosen", "rejected"), ("chosen", "chosen"), ("rejected", "rejected"), ("rejected", "chosen"))
STAGE_FIELDS = {str(field.alias) for field in Stage.model_fields.values()}
REFERENCE_LOSSES = ("dpo", "ipo", "hinge", "selm")
# Tried, against each sequence alone (tests/jobs/test_train_packed.py). Any other model is trained padded.
PACKED_ARCHITECTURES = ("gemma2", "llama", "mistral", "qwen2", "qwen3")
PACKED_LAYERS = {"full_attention", "sliding_attention"}


class Reads(Frozen):
    """What of a table a training reads: columns of token ids, the prompt's first, then each answer's."""

    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()  # of them, those that a row may lack
    rewards: bool = False  # one reward a sequence is read, at its last token; else the log-probability of each target

    @classmethod
    def of(cls, loss: str) -> Reads:
        """Of the training with a loss of this type."""
        if loss == "sft":
            return cls(columns=("prompt_ids", "target_ids"))
        if loss == "bradley-terry":
            return cls(columns=PAIR_COLUMNS, rewards=True)
        if loss == "gap":  # how much better the first of two answers is than the second, as the recipe renders the two
            columns = ("prompt_ids", *(f"{first}_{second}_ids" for first, second in GAP_PAIRS))
            return cls(columns=columns, rewards=True)
        if loss == "selm":
            return cls(columns=(*PAIR_COLUMNS, "kept_ids"), optional=("kept_ids",))
        return cls(columns=PAIR_COLUMNS)


class Shape(Frozen):
    """How the state of a training is cut: a checkpoint of the same shape is taken up as it lies (elastic.py has the others)."""

    ranks: int
    zero_stage: int | None  # None: without DeepSpeed
    offloaded: bool

    def __str__(self) -> str:
        """As one says it: `2 ranks with zeroStage 3`."""
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        zero = "no ZeRO" if self.zero_stage is None else f"zeroStage {self.zero_stage}"
        return f"{ranks} with {zero}{', offloaded' if self.offloaded else ''}"


class Batches(Frozen):
    """How the examples of a training are dealt out; which of them a step takes depends on none of it but `steps`."""

    ranks: int
    steps: int  # optimiser steps of the whole training
    budget: int | None  # places (tokens that are computed) in one forward pass of one rank; None: the ranks measure it
    packed: bool  # one flat sequence a micro batch (packing.py), else padded ones (padding.py)


@contextmanager
def told_of(step: Train) -> Iterator[None]:
    """A ConfigError about a value of this training says where its own stands: of a further training in its stage."""
    try:
        yield
    except ConfigError as error:
        for_stage = {f"spec.training.{field}": f"spec.training.stages[{step.stage}].{field}" for field in STAGE_FIELDS}
        if step.stage is None:
            raise
        told = ConfigError(
            [replace(problem, path=for_stage.get(problem.path, problem.path)) for problem in error.problems]
        )
        told.reason = error.reason
        raise told from error


def check(step: Train, means: TrainingMeans) -> None:
    """What can be wrong before any data is read. Raises ConfigError."""
    settings, loss = step.settings, step.loss
    losses = OBJECTIVE_LOSSES[step.objective]
    if loss.type not in losses:
        raise ConfigError.one(
            "spec.training.loss.type",
            f"is no loss of a training on {step.rows}; write {' or '.join(losses)}",
            loss.type,
        )
    if Reads.of(loss.type).rewards and settings.overlong == "Truncate":
        raise ConfigError.one(
            "spec.training.overlong",
            "would cut the end that a reward is read at; write Drop",
            settings.overlong,
        )
    if loss.label_smoothing and loss.type not in ("dpo", "ipo"):
        raise ConfigError.one(
            "spec.training.loss.labelSmoothing",
            "is defined for dpo and ipo; remove it or write loss.type: dpo",
            loss.label_smoothing,
        )
    if loss.type in REFERENCE_LOSSES and step.reference is None:
        raise ConfigError.one(
            "spec.iteration.reference", f"loss {loss.type} needs a reference; write initial or previous"
        )
    if settings.global_batch_size < (ranks := rank_count(means)):
        raise ConfigError.one(
            "spec.training.globalBatchSize",
            f"is less than the ranks (compute.training.nodes × gpusPerNode: {ranks}), of which some would have no example; "
            f"write at least {ranks}, or fewer ranks",
            settings.global_batch_size,
        )
    if settings.max_prompt_tokens >= settings.max_length_tokens:
        raise ConfigError.one(
            "spec.training.maxPromptTokens",
            f"leaves no room for an answer; write a value below maxLengthTokens {settings.max_length_tokens}",
            settings.max_prompt_tokens,
        )
    if settings.precision == "float16" and means.device == "CPU":
        raise ConfigError.one(
            "spec.training.precision", "is not trained on a CPU; write float32 or bfloat16", settings.precision
        )
    if settings.lora is not None and "lm_head" in settings.lora.target_modules:
        raise ConfigError.one(
            "spec.training.lora.targetModules",
            "holds the output head, whose weights the loss reads directly, so an adapter on it would never be trained; "
            "remove lm_head",
            list(settings.lora.target_modules),
        )
    if means.offload != "None" and means.zero_stage == 0:
        raise ConfigError.one("spec.compute.training.offload", "needs zeroStage 1, 2 or 3; write one", means.offload)
    if zero_stage_of(means) == 0 and settings.precision == "bfloat16":
        raise ConfigError.one(
            "spec.compute.training.zeroStage",
            "has no float32 copy of what it trains in bfloat16, nor of the gradients; write 1, or leave it out",
            means.zero_stage,
        )
    if means.offload == "OptimizerAndParameters" and means.zero_stage not in (None, 3):
        raise ConfigError.one(
            "spec.compute.training.offload",
            "needs zeroStage: 3; write that, or offload: Optimizer",
            means.offload,
        )


def rank_count(means: TrainingMeans) -> int:
    """Processes of a training: a GPU each; on CPU one a node."""
    return means.nodes * (means.gpus_per_node if means.device == "GPU" else 1)


def threads_of(means: TrainingMeans, cpus: int, ranks_here: int) -> int | None:
    """Threads of each rank on a node where something is computed on its CPUs, an offloaded optimiser's step too; else None."""
    return max(1, cpus // ranks_here) if means.device == "CPU" or means.offload != "None" else None


def batches_of(
    settings: TrainSettings, ranks: int, lengths: np.ndarray, tokens: int | None, room: int | None, layout: Layout
) -> Batches:
    """The batches of a training on examples of these `lengths` (examples, 1 + answers).

    The budget is `tokens` (microBatchTokens), else `room`, what memory is thought to have, and at least the largest example;
    None where that is measured later.
    Raises ConfigError when an example is over the `tokens` that were asked for.
    """
    largest = int(places_of(lengths, layout).max())
    if tokens is not None and largest > tokens:
        raise ConfigError.one(
            "spec.compute.training.microBatchTokens",
            f"is less than the largest example takes ({largest} tokens: a prompt and its answers); write at least {largest}, "
            "or a smaller training.maxLengthTokens",
            tokens,
        )
    steps = step_count(len(lengths), settings.epochs, settings.global_batch_size)
    thought = None if room is None else max(largest, room)
    return Batches(ranks=ranks, steps=steps, budget=tokens or thought, packed=layout.packed)


def packs(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config.json is one whose attention over packed sequences is known to be right.

    Chunked or linear attention and state-space layers would be silently wrong: they go by the place, not by the position.
    """
    return (
        config.get("model_type") in PACKED_ARCHITECTURES
        and set(config.get("layer_types") or PACKED_LAYERS) <= PACKED_LAYERS
    )


def zero_stage_of(means: TrainingMeans) -> int | None:
    """The ZeRO stage that the means leave no choice in. None: 2 or 3, as fits (memory.py), or no DeepSpeed at all."""
    if not uses_deepspeed(means):
        return None
    if means.zero_stage is not None:
        return means.zero_stage
    return 3 if rank_count(means) == 1 or means.offload == "OptimizerAndParameters" else None


def uses_deepspeed(means: TrainingMeans) -> bool:
    """ZeRO shards over ranks: with one rank and nothing offloaded there is nothing for DeepSpeed to do."""
    return rank_count(means) > 1 or means.offload != "None"


def shape_of(means: TrainingMeans, zero_stage: int | None) -> Shape:
    """The shape of a training by these means, at this stage."""
    return Shape(ranks=rank_count(means), zero_stage=zero_stage, offloaded=means.offload != "None")


def deepspeed_config(settings: TrainSettings, means: TrainingMeans, zero_stage: int) -> dict[str, Any]:
    """DeepSpeed's configuration, all in numbers (its "auto" fails where a model is made before Trainer resolves it)."""
    zero: dict[str, Any] = {
        "stage": zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": means.device == "GPU",
    }
    if means.offload != "None":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": means.device == "GPU"}
    if means.offload == "OptimizerAndParameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": means.device == "GPU"}
    if zero_stage == 3:
        # Without it the gathered state is empty, and nothing says so.
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_micro_batch_size_per_gpu": 1,  # what the loader gives at once is a whole step of the rank (trainer.py)
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_gradient_norm,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        # Else the micro batches of a step would add up in bfloat16. (With float16 DeepSpeed knows no other.)
        "data_types": {"grad_accum_dtype": "fp32"} if settings.precision == "bfloat16" else {},
        "fp16": {"enabled": settings.precision == "float16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # RMSprop and Adafactor: elementwise, or nearly, on flat shards
        "zero_force_ds_cpu_optimizer": False,  # offloaded states are stepped by torch's optimiser: nothing to compile
        "steps_per_print": 2**31,
    }


def trainer_arguments(
    step: Train, means: TrainingMeans, steps: int, output: Path, zero_stage: int | None = None
) -> Any:
    """Transformers' TrainingArguments; without DeepSpeed where there is no ZeRO stage.

    What it says of data, losses, logs and saves is ours to do (trainer.py).
    """
    from transformers import TrainingArguments

    settings = step.settings
    optimizer = settings.optimizer
    deepspeed = zero_stage is not None
    checkpointing = means.activation_checkpointing == "Full"
    # PEFT under ZeRO-3 recomputes rightly in the reentrant form only (DeepSpeed pull request 8130).
    reentrant = settings.lora is not None and zero_stage == 3
    return TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.learning_rate_schedule],
        warmup_steps=round(settings.warmup_ratio * steps),
        optim=OPTIMIZERS[optimizer.type],
        optim_args=f"alpha={optimizer.beta2},eps={optimizer.epsilon},weight_decay={optimizer.weight_decay}"
        if optimizer.type == "rmsprop"
        else None,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.epsilon,
        max_grad_norm=settings.max_gradient_norm,
        seed=settings.seed % 2**32,  # numpy's bound
        use_cpu=means.device == "CPU",
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        tf32=None,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": reentrant} if checkpointing else None,
        deepspeed=None if zero_stage is None else deepspeed_config(settings, means, zero_stage),
        ddp_backend="gloo" if means.device == "CPU" and deepspeed else None,
        remove_unused_columns=False,
        dataloader_num_workers=0 if means.device == "CPU" else 1,  # there the next step is laid out while this one runs
        dataloader_prefetch_factor=None if means.device == "CPU" else 2,
        dataloader_pin_memory=means.device == "GPU",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not a number is shown as it is
        save_strategy="no",  # saving.py decides
        report_to="none",
        disable_tqdm=True,
    )
