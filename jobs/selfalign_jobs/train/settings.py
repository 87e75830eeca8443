"""From the plan's settings and means to numbers: ranks and batches, TRL's arguments, DeepSpeed's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Frozen, Train, TrainSettings
from selfalign_api.run_file import TrainingMeans

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "rmsprop": "rmsprop", "adafactor": "adafactor"}
BUILT_LOSSES = ("dpo", "ipo", "simpo", "orpo", "hinge")
REFERENCE_LOSSES = ("dpo", "ipo", "hinge")


class Layout(Frozen):
    """How the pairs of an optimiser step are dealt out: global batch = ranks × micro_batch × accumulation."""

    ranks: int
    micro_batch: int  # pairs in one forward pass of one rank
    accumulation: int
    steps: int  # optimiser steps of the whole training

    @property
    def global_batch(self) -> int:
        """Pairs of one optimiser step."""
        return self.ranks * self.micro_batch * self.accumulation


def check(step: Train, means: TrainingMeans) -> None:
    """What can be wrong before any data is read. Raises ConfigError."""
    settings, loss = step.settings, step.loss
    if step.objective != "preference" or loss.type not in BUILT_LOSSES:
        raise ConfigError.one(
            "spec.training.loss.type", f"is not built yet; write one of {', '.join(BUILT_LOSSES)}", loss.type
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
    if means.offload == "OptimizerAndParameters" and means.zero_stage != 3:
        raise ConfigError.one(
            "spec.compute.training.offload",
            "needs zeroStage: 3; write that, or offload: Optimizer",
            means.offload,
        )


def rank_count(means: TrainingMeans) -> int:
    """Processes of a training: a GPU each; on CPU one a node."""
    return means.nodes * (means.gpus_per_node if means.device == "GPU" else 1)


def layout(settings: TrainSettings, ranks: int, pairs: int, longest: int, micro_batch_tokens: int) -> Layout:
    """The largest micro batches that fit in `micro_batch_tokens` (padded; a pair is two sequences of ≤ `longest` tokens).

    The global batch comes out exactly, whatever the ranks. Raises ConfigError when it cannot.
    """
    batch = settings.global_batch_size
    if batch % ranks:
        below, above = batch - batch % ranks, batch + ranks - batch % ranks
        raise ConfigError.one(
            "spec.training.globalBatchSize",
            f"is not a multiple of the {ranks} ranks (compute.training.nodes × gpusPerNode); "
            f"write {f'{below} or ' if below else ''}{above}, or a number of ranks that divides {batch}",
            batch,
        )
    if 2 * longest > micro_batch_tokens:
        raise ConfigError.one(
            "spec.compute.training.microBatchTokens",
            f"is less than one pair takes (two sequences of up to {longest} tokens); write at least {2 * longest}, "
            "or a smaller training.maxLengthTokens",
            micro_batch_tokens,
        )
    share = batch // ranks
    micro = max(n for n in range(1, share + 1) if share % n == 0 and n * 2 * longest <= micro_batch_tokens)
    steps = max(1, -(-round(pairs * settings.epochs) // batch))
    return Layout(ranks=ranks, micro_batch=micro, accumulation=share // micro, steps=steps)


def uses_deepspeed(means: TrainingMeans) -> bool:
    """ZeRO shards over ranks: with one rank and nothing offloaded there is nothing for DeepSpeed to do."""
    return rank_count(means) > 1 or means.offload != "None"


def deepspeed_config(settings: TrainSettings, means: TrainingMeans, batches: Layout) -> dict[str, Any]:
    """DeepSpeed's configuration, all in numbers (its "auto" fails where a model is made before Trainer resolves it)."""
    zero: dict[str, Any] = {
        "stage": means.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": means.device == "GPU",
    }
    if means.offload != "None":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": means.device == "GPU"}
    if means.offload == "OptimizerAndParameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": means.device == "GPU"}
    if means.zero_stage == 3:
        # Without it the gathered state is empty, and nothing says so.
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_micro_batch_size_per_gpu": batches.micro_batch,
        "gradient_accumulation_steps": batches.accumulation,
        "gradient_clipping": settings.max_gradient_norm,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "fp16": {"enabled": settings.precision == "float16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # RMSprop and Adafactor: elementwise, or nearly, on flat shards
        "zero_force_ds_cpu_optimizer": False,  # offloaded states are stepped by torch's optimiser: nothing to compile
        "steps_per_print": 2**31,
    }


def trl_arguments(step: Train, means: TrainingMeans, batches: Layout, output: Path) -> Any:
    """TRL's DPOConfig. What it says of data, losses, logs and saves is ours to do (trainer.py)."""
    from trl import DPOConfig

    settings = step.settings
    optimizer = settings.optimizer
    deepspeed = uses_deepspeed(means)
    return DPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=batches.micro_batch,
        gradient_accumulation_steps=batches.accumulation,
        max_steps=batches.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.learning_rate_schedule],
        warmup_steps=round(settings.warmup_ratio * batches.steps),
        optim=OPTIMIZERS[optimizer.type],
        optim_args=f"alpha={optimizer.beta2},eps={optimizer.epsilon},weight_decay={optimizer.weight_decay}"
        if optimizer.type == "rmsprop"
        else None,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.epsilon,
        max_grad_norm=settings.max_gradient_norm,
        beta=step.loss.beta,
        precompute_ref_log_probs=True,  # ours; otherwise TRL loads a reference model even for losses that have none
        max_length=None,
        seed=settings.seed % 2**32,  # numpy's bound
        use_cpu=means.device == "CPU",
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        tf32=None,
        gradient_checkpointing=means.activation_checkpointing == "Full",
        deepspeed=deepspeed_config(settings, means, batches) if deepspeed else None,
        ddp_backend="gloo" if means.device == "CPU" and deepspeed else None,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=means.device == "GPU",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not a number is shown as it is
        save_strategy="no",  # checkpoint.py decides
        report_to="none",
        disable_tqdm=True,
    )
