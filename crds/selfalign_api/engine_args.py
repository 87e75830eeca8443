"""Arguments of vLLM's engine in `compute.generation.engineArgs`: those that the pinned vLLM has and no field of the API owns.

The means never change a result (api.md), so whatever changes what an engine computes belongs to the method.
Names: fields of `vllm.EngineArgs`, written with _ or -.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from selfalign_api.errors import Problem, shown
from selfalign_api.means import Compute

__all__ = ["OWNED_ENGINE_ARGS", "engine_arg_problems", "plain_engine_args"]

OURS = "how selfalign runs its engines"
SIZE = "spec.compute.generation.tensorParallelSize"
REPLICAS = "spec.compute.generation.replicas"

# Argument → the field that owns it, or OURS; "" where nothing does, because it would change results.
OWNED_ENGINE_ARGS = {
    "model": "spec.model.url",
    "model_weights": "spec.model.url",
    "revision": "spec.model.url",
    "code_revision": "spec.model.url",
    "hf_config_path": "spec.model.url",
    "tokenizer": "spec.model.url",
    "tokenizer_revision": "spec.model.url",
    "trust_remote_code": "spec.model.remoteCode",
    "hf_token": "spec.credentials",
    "dtype": "spec.generation.precision",
    "quantization": "spec.generation.precision",
    "quantization_config": "spec.generation.precision",
    "max_model_len": "spec.generation.maxModelTokens",
    "seed": "spec.seed",
    "gpu_memory_utilization": "spec.compute.generation.gpuMemoryPercent",
    "tensor_parallel_size": SIZE,
    "pipeline_parallel_size": SIZE,
    "prefill_context_parallel_size": SIZE,
    "nnodes": SIZE,
    "node_rank": SIZE,
    "master_addr": SIZE,
    "master_port": SIZE,
    "device_ids": SIZE,
    "data_parallel_size": REPLICAS,
    "data_parallel_size_local": REPLICAS,
    "data_parallel_rank": REPLICAS,
    "data_parallel_start_rank": REPLICAS,
    "data_parallel_address": REPLICAS,
    "data_parallel_rpc_port": REPLICAS,
    "data_parallel_backend": REPLICAS,
    "data_parallel_hybrid_lb": REPLICAS,
    "data_parallel_external_lb": REPLICAS,
    "data_parallel_multi_port_external_lb": REPLICAS,
    "disable_log_stats": OURS,
    "distributed_executor_backend": OURS,
    "max_num_queued_reqs": OURS,
    "max_num_queued_tokens": OURS,
    "scheduler_cls": OURS,
    "tokens_only": OURS,
    "worker_cls": OURS,
    "worker_extension_cls": OURS,
    "config_format": "",
    "convert": "",
    "diffusion_config": "",
    "disable_sliding_window": "",
    "enable_lora": "",
    "generation_config": "",
    "hf_overrides": "",
    "kv_cache_dtype": "",
    "kv_cache_dtype_skip_layers": "",
    "load_format": "",
    "logits_processors": "",
    "logprobs_mode": "",
    "mamba_cache_dtype": "",
    "mamba_ssm_cache_dtype": "",
    "model_class_overrides": "",
    "override_generation_config": "",
    "pooler_config": "",
    "runner": "",
    "skip_tokenizer_init": "",
    "spec_method": "",
    "spec_model": "",
    "spec_tokens": "",
    "speculative_config": "",
    "tokenizer_mode": "",
    "use_fp64_gumbel": "",
    "watermark": "",
    "watermark_config": "",
}
FIELDS = Path(__file__).with_name("engine_fields.json")  # of the pinned vLLM (`make pinned`)
KIND_OF = {bool: "boolean", int: "integer", float: "number", str: "text", type(None): "null", dict: "map", list: "list"}


def plain_engine_args(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in vLLM's own spelling, with underscores."""
    return {name.replace("-", "_"): value for name, value in given.items()}


def engine_arg_problems(compute: Compute | None) -> list[Problem]:
    """One problem for each engine argument that a field of the API owns, naming it, or that the pinned vLLM would refuse."""
    arguments = compute.generation.engine_args if compute is not None and compute.generation is not None else None
    return list(_problems(arguments or {}))


def _problems(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in arguments.items():
        plain, path = name.replace("-", "_"), f"spec.compute.generation.engineArgs.{name}"
        if plain in OWNED_ENGINE_ARGS:
            yield Problem(path, value, _owned(OWNED_ENGINE_ARGS[plain]))
        elif plain not in _known()["fields"]:
            yield Problem(path, value, _unknown(plain))
        elif not _takes(kinds := _known()["fields"][plain], value):
            yield Problem(path, value, f"is no value that vLLM's {plain} takes; write {_words(kinds)}")
        elif plain != name and plain in arguments:
            yield Problem(path, value, f"{plain} stands beside it and is the same; keep one of the two")


def _owned(owner: str) -> str:
    if not owner:
        return "this changes results, which compute must not; remove it"
    if owner == OURS:
        return f"{OURS} owns this; remove it"
    return f"{owner} owns this; write it there and remove it here"


def _unknown(name: str) -> str:
    found = _known()
    near = get_close_matches(name, found["fields"].keys() | OWNED_ENGINE_ARGS.keys(), n=1, cutoff=0.6)
    meant = f"write {near[0]}, or remove it" if near else "remove it"
    return f"vLLM {found['vllm']}, whose arguments these are, has none of this name; {meant}"


@lru_cache(maxsize=1)
def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(FIELDS.read_text())
    return known


def _takes(kinds: list[str], value: object) -> bool:
    """Whether a value is of one of the kinds; whole numbers are numbers too."""
    kind = KIND_OF.get(type(value), "any")
    also = {"integer": "number"}.get(kind, kind)
    whole = "integer" if isinstance(value, float) and value.is_integer() else kind  # 8.0, as a cluster may write 8
    return "any" in kinds or bool({kind, also, whole, f"={value}"} & set(kinds))


def _words(kinds: list[str]) -> str:
    values = [shown(kind[1:]) for kind in kinds if kind.startswith("=")]
    articles = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "text": "text"}
    others = [articles.get(kind, f"a {kind}") for kind in kinds if not kind.startswith("=") and kind != "null"]
    return " or ".join([", ".join(values)] * bool(values) + others)
