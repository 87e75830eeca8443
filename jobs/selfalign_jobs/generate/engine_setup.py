"""How a vLLM engine is set up: its process' environment and the `EngineArgs`. What is set, and why, is in benchmarks/README.md."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfalign_api.engine_args import plain_engine_args
from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.machine import OPENMP, memory_here

GIB = 1 << 30
CPU_BATCH_TOKENS = 4096
ON_CPU = {
    "max_num_seqs": 256,
    "enable_prefix_caching": True,
    # A seeded request whose prompt is prefilled in parts crashes on CPU ("Generator does not use offset", 0.32).
    "enable_chunked_prefill": False,
    "enforce_eager": True,
    "block_size": 32,  # the default of 128 shares no prefix of a short prompt
}
BLACKWELL = 10  # compute capability 10.x: B200, GB200, B300


@dataclass(frozen=True)
class EngineSpec:
    """How a model runs: the method's settings and the means."""

    settings: EngineSettings
    means: GenerationMeans
    trust_remote_code: bool = False
    pools: Literal["classify", "embed"] | None = (
        None  # a model that writes nothing: with a scoring head, or an embedder
    )
    field: str = "spec.model.url"  # where the run file names it
    engines_here: int = 1  # on one node, which share its memory


def environment(means: GenerationMeans, threads: int) -> dict[str, str]:
    """What the process of an engine needs in its environment before it imports torch and vLLM.

    In-process engine core: as a child it would outlive a SIGKILLed actor and keep the GPU (vllm#55510, ray#54364).
    """
    common = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "HF_HUB_OFFLINE": "1",  # models are local folders; nothing may be fetched behind the digest's back
        "TOKENIZERS_PARALLELISM": "false",
    }
    if means.device == "GPU":
        # FlashInfer's sampler would be compiled at every start by an nvcc that images lack, and none of our requests
        # could use it: they are seeded or greedy.
        return common | {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    # Ray sets OMP_NUM_THREADS to the CPUs of the actor; vLLM would bind threads to cores that others share.
    # The engine runs eagerly there; what is left to Dynamo is one tiny function of the sampler, compiled (20 s of g++)
    # when the first comparison comes.
    own = {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}
    return common | OPENMP | own


def engine_arguments(spec: EngineSpec, model: Path, capability: tuple[int, int] | None = None) -> dict[str, Any]:
    """The `EngineArgs` of vLLM. Whatever vLLM would guess from the folder, and that matters, is said.

    Batch sizes and prefix caching on a GPU are vLLM's own choice for the card (usage context LLM_CLASS: 1 024 sequences
    and 16 384 tokens on an H100, 256 and 8 192 on an A100). `capability` is the GPU's.
    """
    arguments: dict[str, Any] = {
        "model": str(model),
        "trust_remote_code": spec.trust_remote_code,
        "max_model_len": spec.settings.max_model_tokens or _own_context(spec, model),
        "tensor_parallel_size": spec.means.tensor_parallel_size,
        # Inside a Ray actor vLLM would silently take its `ray` executor.
        "distributed_executor_backend": "uni" if spec.means.tensor_parallel_size == 1 else "mp",
        "generation_config": "vllm",  # the folder's sampling defaults must not change ours; its end tokens still count
        # Verdicts are differences of logits, which in bfloat16 lie on a grid of 0.125 nats: 7 % of a real judge's tied.
        "hf_overrides": {"head_dtype": spec.settings.head_precision},
        "disable_log_stats": True,
        "seed": 0,
        **_precision(spec.settings),
        # Said, not guessed: a model whose name ends in RewardModel would be loaded as an embedder.
        **({"runner": "pooling", "convert": spec.pools} if spec.pools else {}),
        **(ON_CPU if spec.means.device == "CPU" else _of_gpu(spec, capability)),
    }
    if spec.pools:  # an encoder has no cache of prefixes; vLLM knows which model is one
        arguments.pop("enable_prefix_caching", None)
    if spec.means.device == "CPU":
        arguments["max_num_batched_tokens"] = max(CPU_BATCH_TOKENS, arguments["max_model_len"])
    return arguments | plain_engine_args(spec.means.engine_args)


def _precision(settings: EngineSettings) -> dict[str, Any]:
    if settings.precision == "fp8":  # quantised as it is loaded; "fp8" itself is for folders that are quantised already
        return {"dtype": "auto", "quantization": "fp8_per_tensor"}
    return {"dtype": settings.precision}


def _of_gpu(spec: EngineSpec, capability: tuple[int, int] | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"gpu_memory_utilization": spec.means.gpu_memory_percent / 100}
    if capability is not None and capability[0] == BLACKWELL and not _chooses_attention(spec.means):
        # vLLM would take FlashInfer there, whose kernels are fetched from NVIDIA or compiled by an nvcc: images have neither.
        arguments["attention_backend"] = "TRITON_ATTN" if spec.settings.precision == "float32" else "FLASH_ATTN"
    return arguments


def _chooses_attention(means: GenerationMeans) -> bool:
    return bool({"attention_backend", "attention_config"} & plain_engine_args(means.engine_args).keys())


def _own_context(spec: EngineSpec, model: Path) -> int:
    """The model's, for a plan of an older version, which left it open."""
    return int(_text_config(spec, model).max_position_embeddings)


def cpu_cache_gib(spec: EngineSpec, arguments: dict[str, Any]) -> int:
    """GiB of KV cache: what all sequences need at full length, at most a quarter of the node's memory, shared by its engines."""
    config = _text_config(spec, arguments["model"])
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * heads * head_size * (4 if arguments["dtype"] == "float32" else 2)
    needed = bytes_per_token * arguments["max_num_seqs"] * arguments["max_model_len"]
    return max(1, min(-int(-needed // GIB), memory_here() // 4 // spec.engines_here // GIB))


def _text_config(spec: EngineSpec, model: Path | str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model, trust_remote_code=spec.trust_remote_code).get_text_config()
