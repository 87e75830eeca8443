"""Arguments of vLLM's engine that `compute.generation.engineArgs` may not carry, because a field of the API owns them.

The means never change a result (api.md), so whatever changes what an engine computes belongs to the method.
Names: fields of `vllm.EngineArgs`, written with _ or -.
"""

from __future__ import annotations

from selfalign_api.errors import Problem
from selfalign_api.means import Compute

__all__ = ["OWNED_ENGINE_ARGS", "engine_arg_problems"]

# Argument → the field that owns it; "" where nothing does, because it would change results.
OWNED_ENGINE_ARGS = {
    "model": "spec.model.url",
    "revision": "spec.model.url",
    "tokenizer": "spec.model.url",
    "tokenizer_revision": "spec.model.url",
    "trust_remote_code": "spec.model.remoteCode",
    "dtype": "spec.generation.precision",
    "quantization": "spec.generation.precision",
    "max_model_len": "spec.generation.maxModelTokens",
    "seed": "spec.seed",
    "tensor_parallel_size": "spec.compute.generation.tensorParallelSize",
    "gpu_memory_utilization": "spec.compute.generation.gpuMemoryPercent",
    "data_parallel_size": "spec.compute.generation.replicas",
    "model_weights": "spec.model.url",
    "hf_config_path": "spec.model.url",
    "hf_token": "spec.credentials",
    "quantization_config": "spec.generation.precision",
    "logprobs_mode": "",
    "runner": "",
    "convert": "",
    "hf_overrides": "",
    "override_generation_config": "",
    "generation_config": "",
    "logits_processors": "",
    "speculative_config": "",
    "kv_cache_dtype": "",
    "enable_lora": "",
    "load_format": "",
}


def engine_arg_problems(compute: Compute | None) -> list[Problem]:
    """One problem for each engine argument that a field of the API owns, naming that field."""
    arguments = compute.generation.engine_args if compute is not None and compute.generation is not None else None
    return [
        Problem(f"spec.compute.generation.engineArgs.{name}", value, _message(OWNED_ENGINE_ARGS[plain]))
        for name, value in (arguments or {}).items()
        if (plain := name.replace("-", "_")) in OWNED_ENGINE_ARGS
    ]


def _message(owner: str) -> str:
    if not owner:
        return "this changes results, which compute must not; remove it"
    return f"{owner} owns this; write it there and remove it here"
