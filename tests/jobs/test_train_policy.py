"""A model is loaded for training as what it is: its log-probabilities are those of the engine that wrote the answers."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from selfalign_api.training_values import Lora, TrainSettings
from selfalign_jobs.train.policy import attention_of, load, training_dtype, with_adapters, without_dropout

TOKENS = torch.arange(20)[None]


def test_a_soft_cap_on_the_attention_scores_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, attn_logit_softcapping=1.0,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 20  # scores far beyond the cap
    model.save_pretrained(tmp_path)
    whole, fast = (
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation=kind)(TOKENS).logits
        for kind in ("eager", "sdpa")
    )
    loaded = load(tmp_path, torch.float32, remote_code=False)(TOKENS).logits
    assert torch.equal(loaded, whole)
    assert not torch.allclose(fast, whole, atol=0.1)  # else transformers has learnt it, and attention_of may go


def test_a_frozen_base_is_held_in_16_bits_and_what_autocast_trains_in_32() -> None:
    whole = TrainSettings(learning_rate=1, precision="bfloat16")
    adapters = whole.model_copy(update={"lora": Lora()})
    assert [training_dtype(each, deepspeed=False) for each in (whole, adapters)] == [torch.float32, torch.bfloat16]
    assert training_dtype(whole, deepspeed=True) == torch.bfloat16


def test_a_models_dropout_is_off_and_an_adapters_stays() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            attention_dropout=0.5,
        )
    )  # fmt: skip
    without_dropout(model)
    config = LoraConfig(r=2, lora_dropout=0.25, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = with_adapters(model, config, zero_stage=None, checkpointing=False)
    assert {m.p for m in adapted.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}
    assert {m.attention_dropout for m in adapted.modules() if hasattr(m, "attention_dropout")} == {0.0}


def test_other_models_keep_their_fast_attention() -> None:
    assert attention_of(LlamaConfig()) is None
