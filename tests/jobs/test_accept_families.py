"""No model that engine and training have is refused: small ones of many families, as transformers makes and saves them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cases.case import ON_CPU, REPOSITORY, TINY, Room
from selfalign_api.load import load_run
from selfalign_jobs.accept.program import examine
from selfalign_jobs.accept.weights import linear_modules, read_weights

IDS = {"vocab_size": 848, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
SHAPE = IDS | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
GPT = IDS | {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512}
STATES = IDS | {"hidden_size": 64, "num_hidden_layers": 3, "state_size": 8}
DEEPSEEK = SHAPE | {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}
FAMILIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("mistral", "qwen2", "olmo2", "phi3", "granite", "lfm2", "falcon", "gpt_neox", "cohere2"), SHAPE),
    **dict.fromkeys(("qwen3", "gemma2", "gemma3_text", "glm4"), SHAPE | {"head_dim": 16}),
    "gpt2": GPT,
    "bloom": IDS | {"hidden_size": 64, "n_layer": 3, "n_head": 4},
    "mamba": STATES,
    "opt": SHAPE | {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "mixtral": SHAPE | {"num_local_experts": 2},
    "deepseek_v3": DEEPSEEK,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_as_it_is_saved_is_accepted(family: str, tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from selfalign_jobs.train import policy

    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**FAMILIES[family])).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / "model" / name, folder / name)
    run = Room(tmp_path / "room").run({"model.url": folder.as_uri()})
    found = examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)
    assert found.looked_at == ()
    # What an adapter may sit on is read from the headers; training asks the model itself.
    assert linear_modules(read_weights(found.models["policy"])) == policy.linear_modules(folder, remote_code=False)
