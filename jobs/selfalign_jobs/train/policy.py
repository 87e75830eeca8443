"""Models loaded for training: the policy, and the reference while its log-probabilities are computed."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from selfalign_api.errors import ConfigError
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora, TrainSettings
from selfalign_jobs.train.attention import NAME, backend_of
from selfalign_jobs.train.reward_model import load_reward_model
from selfalign_jobs.train.settings import deepspeed_config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SAFETENSORS_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def load(folder: Path, dtype: torch.dtype, *, remote_code: bool, packed: bool = False, rewards: bool = False) -> Any:
    """A causal or a reward model, with attention over packed sequences or its own; sharded at once where ZeRO-3 is on."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
    attention = NAME if packed else attention_of(config)
    if rewards:
        return load_reward_model(folder, dtype, remote_code=remote_code, attention=attention)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=remote_code, attn_implementation=attention
    )


def attention_of(config: Any) -> str | None:
    """The attention that computes what the model is: torch's own leaves out Gemma-2's soft cap on the scores, silently.

    None is transformers' choice. (transformers 5.19, integrations/sdpa_attention.py takes no `softcap`; vLLM applies it.)
    """
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else None


def kernel(folder: Path, packed: bool, device: str, precision: str, *, remote_code: bool = False) -> str:
    """Which layout, attention and precision score: `packed batched float32`. Log-probabilities of two kernels are not mixed."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
    if not packed:
        return f"padded {attention_of(config) or 'sdpa'} {precision}"
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    backend = backend_of(device, DTYPES[precision], getattr(text, "attn_logit_softcapping", None), head)
    return f"packed {backend} {precision}"


def training_dtype(settings: TrainSettings, deepspeed: bool) -> torch.dtype:
    """In what the weights are loaded: 16 bits where no optimiser needs them as float32 masters.

    DeepSpeed keeps masters of its own, and a LoRA's base is frozen (PEFT makes the adapters in float32).
    """
    return DTYPES[settings.precision] if deepspeed or settings.lora is not None else torch.float32


def source_dtype(folder: Path, remote_code: bool) -> torch.dtype:
    """In what a model's weights were given: as its config says, else as its first safetensors file holds them."""
    declared = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code).dtype
    if declared is not None:
        return declared if isinstance(declared, torch.dtype) else DTYPES[str(declared)]
    with next(iter(sorted(folder.glob("*.safetensors")))).open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return next(SAFETENSORS_DTYPES[t["dtype"]] for t in header.values() if t.get("dtype") in SAFETENSORS_DTYPES)


def lora_config(lora: Lora, folder: Path, *, remote_code: bool, rewards: bool = False) -> LoraConfig:
    """PEFT's configuration. Raises ConfigError for a target module that the model lacks; no weights are loaded for that."""
    there = linear_modules(folder, remote_code=remote_code)
    unknown = [name for name in lora.target_modules if name not in there]
    if unknown:
        raise ConfigError.one(
            "spec.training.lora.targetModules",
            f"names {', '.join(unknown)}, which this model lacks; write some of {', '.join(sorted(there))}",
            list(lora.target_modules),
        )
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules) or "all-linear",
        use_dora=lora.dora,
        use_rslora=lora.rank_stabilized,
        task_type="SEQ_CLS" if rewards else "CAUSAL_LM",  # the first trains the reward's head too
    )


def without_dropout(model: Any) -> None:
    """A preference is scored by the model as it will answer; adapters keep their own dropout (added afterwards)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


def with_adapters(model: Any, config: LoraConfig, *, zero_stage: int | None, checkpointing: bool) -> Any:
    """The model frozen, with adapters on it that are trained."""
    # ZeRO-3 gathers parameters of one dtype only (DeepSpeed issue 8072); elsewhere adapters are trained in float32.
    found = get_peft_model(model, config, autocast_adapter_dtype=zero_stage != 3)
    if checkpointing:  # else no layer's input would ask for a gradient
        found.enable_input_require_grads()
    return found


def linear_modules(folder: Path, *, remote_code: bool) -> set[str]:
    """Last names of the linear layers that an adapter may sit on: all but the output head."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=remote_code)
    head = model.get_output_embeddings()
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head  # Conv1D: GPT-2's, a matrix turned round
    }


def inference_engine(model: Any, settings: TrainSettings, means: TrainingMeans, zero_stage: int | None) -> Any:
    """The reference ready for forward passes: sharded as the policy will be under ZeRO-3, whole on each device otherwise."""
    if zero_stage != 3:
        return model.to("cuda" if means.device == "GPU" else "cpu").eval()
    import deepspeed

    config = deepspeed_config(settings, means, zero_stage)
    config["zero_optimization"].pop("offload_optimizer", None)  # there is no optimiser
    engine = deepspeed.initialize(model=model, config=config)[0]
    engine.eval()
    return engine


def release(engine: Any) -> None:
    """Let go of a reference that has scored: DeepSpeed's hooks, and its stack of running modules, would hold the shards."""
    if not hasattr(engine, "destroy"):
        return
    from deepspeed.runtime.zero import parameter_offload

    engine.destroy()
    engine.module = None
    parameter_offload.FWD_MODULE_STACK.clear()  # it begins with the whole model, and is never emptied
