"""The trained model as a plain Hugging Face folder: in the source's dtype, with all that the source's folder says beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from selfalign_jobs.train.adapter import save_adapter
from selfalign_jobs.train.policy import load, source_dtype
from selfalign_jobs.train.reward_model import tokenizer_with_own_pad

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
WEIGHT_INDEX = ".index.json"
ADAPTER = "adapter"


def export(
    trainer: Any,
    source: Path,
    target: Path,
    *,
    base: str | None,
    remote_code: bool,
    chat_template: str | None,
    card: Callable[[bool], str],
    rewards: bool = False,
) -> None:
    """Write the trained weights to `target`; called on all ranks, for shards are gathered; rank 0 writes and checks.

    With LoRA the folder holds the merged model and, in `adapter/`, the adapter (adapter.py), whose base has the URL `base`.
    `card` gives the model's card, or (True) the adapter's.
    Raises RuntimeError when what was written does not read back as it was.
    """
    state: dict[str, Tensor] | None = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    dtype = source_dtype(source, remote_code)
    if trainer.is_deepspeed_enabled and dtype == torch.float32:
        state = _masters(trainer.accelerator.unwrap_model(trainer.model_wrapped), state)
    unset_hf_deepspeed_config()  # else ZeRO-3 would shard what is loaded below over ranks that are gone
    if not trainer.is_world_process_zero():
        return
    if not state:
        raise RuntimeError("the gathered weights are empty: DeepSpeed gathered nothing")
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if isinstance(model, PeftModel):
        adapter = target / ADAPTER
        save_adapter(model, state, adapter, source, base)
        _write_words(adapter, chat_template, card(True))
        base_model = load(source, torch.float32, remote_code=remote_code, rewards=rewards)
        model = PeftModel.from_pretrained(base_model, adapter).merge_and_unload()
        state = model.state_dict()
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model.save_pretrained(target, state_dict=state)
    _copy_companions(source, target, but=("config.json",) if rewards else ())
    if rewards:  # whose config and pad token are its own
        tokenizer_with_own_pad(source, remote_code=remote_code)[0].save_pretrained(target)
    _write_words(target, chat_template, card(False))
    verify(source, target, state, remote_code=remote_code, same_template=chat_template is None, rewards=rewards)


def _write_words(folder: Path, chat_template: str | None, card: str) -> None:
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _masters(model: Any, state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    """The state with the float32 masters of what was trained: a float32 model is published as it was stepped, not rounded."""
    from deepspeed.utils import safe_get_full_fp32_param

    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            master = safe_get_full_fp32_param(parameter)  # of all ranks, together
            if state and master is not None:
                state[name] = master.cpu()
    return state


def _copy_companions(source: Path, target: Path, but: Sequence[str]) -> None:
    """Everything of the source but its weights, its card and `but`: config, end tokens, tokenizer, chat template, code."""
    for file in source.iterdir():
        is_weight = file.name.endswith(WEIGHTS) or file.name.endswith(WEIGHT_INDEX)
        if file.is_file() and not is_weight and file.name not in ("README.md", *but) and not file.name.startswith("."):
            shutil.copyfile(file, target / file.name)


def verify(
    source: Path,
    target: Path,
    state: dict[str, Tensor],
    *,
    remote_code: bool,
    same_template: bool = True,
    rewards: bool = False,
) -> None:
    """Load the folder as a user would and compare: weights bit by bit, dtype, end tokens, tokenizer, chat template."""
    written = load(target, source_dtype(source, remote_code), remote_code=remote_code, rewards=rewards)
    # Tied weights stand once among the parameters, and once in the gathered state.
    found = dict(written.named_parameters())
    differing = [n for n, tensor in found.items() if n not in state or not torch.equal(tensor, state[n].cpu())]
    if differing:
        raise RuntimeError(f"the exported weights do not read back as they were: {', '.join(differing[:5])}")
    if AutoConfig.from_pretrained(source, trust_remote_code=remote_code).eos_token_id != written.config.eos_token_id:
        raise RuntimeError("the exported config lost its end token")
    before, after = (AutoTokenizer.from_pretrained(f, trust_remote_code=remote_code) for f in (source, target))
    if rewards:
        before, _ = tokenizer_with_own_pad(source, remote_code=remote_code)
    sample = "A quiet baker who counts: 1, 2, 3.\nWhat is the larger of 12 and 7?"
    if before.encode(sample) != after.encode(sample) or before.get_vocab() != after.get_vocab():
        raise RuntimeError("the exported tokenizer differs from the model's")
    if same_template and before.chat_template != after.chat_template:
        raise RuntimeError("the exported chat template differs from the model's")
