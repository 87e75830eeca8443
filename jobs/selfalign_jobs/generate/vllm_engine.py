"""vLLM as an engine: in this process, so that it dies with its actor, and fed with token ids.

What is set here and why is measured in benchmarks/README.md, section Generation.
"""

from __future__ import annotations

import os
import time
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from selfalign_api.engine_args import plain_engine_args
from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Comparison
from selfalign_jobs.generate.engine import (
    EngineFacts,
    EngineRequest,
    EngineResult,
    Labels,
    Sample,
    Sampling,
)
from selfalign_jobs.machine import memory_here

GIB = 1 << 30
CPU_SEQUENCES, CPU_BATCH_TOKENS = 256, 4096
# vLLM's own choice for offline work on an H100; its default elsewhere is 128/2048 (AsyncLLM without a usage context).
GPU_SEQUENCES, GPU_BATCH_TOKENS = 1024, 16384
CPU_BLOCK_TOKENS = 32  # the default of 128 shares no prefix of a short prompt


@dataclass(frozen=True)
class EngineSpec:
    """How a model runs: the method's settings and the means."""

    settings: EngineSettings
    means: GenerationMeans
    trust_remote_code: bool = False
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
        return common
    # Ray sets OMP_NUM_THREADS to the CPUs of the actor; vLLM would bind threads to cores that others share.
    # The engine runs eagerly there; what is left to Dynamo is one tiny function of the sampler, compiled (20 s of g++)
    # when the first comparison comes.
    return common | {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCHDYNAMO_DISABLE": "1",
    }


class VllmEngine:
    """A vLLM engine in this process (`generate.engine.Engine`)."""

    def __init__(self, spec: EngineSpec, model: Path) -> None:
        """Load the model from its folder; takes seconds to minutes.

        The environment must be `environment(…)` before vLLM is imported.
        """
        started = time.monotonic()
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        arguments = engine_arguments(spec, model)
        if spec.means.device == "CPU":
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(_cpu_cache_gib(spec, arguments))
        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
        self._submitted: list[EngineRequest] = []  # since the last step
        self._labels: dict[str, Labels] = {}  # of the comparisons under way
        self._facts = EngineFacts(
            context_tokens=self._engine.model_config.max_model_len,
            max_sequences=arguments["max_num_seqs"],
            start_seconds=time.monotonic() - started,
            versions={name: version(name) for name in ("torch", "transformers")} | {"vllm": _vllm_version()},
        )

    @property
    def facts(self) -> EngineFacts:
        """What it offers."""
        return self._facts

    def submit(self, request: EngineRequest) -> None:
        """Take a request; it joins the running batch at the next step."""
        self._submitted.append(request)

    def step(self) -> list[EngineResult]:
        """One forward pass; the requests that finished."""
        self._add_submitted()
        results = []
        for output in self._engine.step():
            if output.finished:
                labels = self._labels.pop(output.request_id, None)
                results.append(EngineResult(output.request_id, _answer(output, labels)))
        return results

    def abort(self, id: str) -> None:
        """Forget a request."""
        self._add_submitted()
        self._labels.pop(id, None)
        self._engine.abort_request([id])

    def _add_submitted(self) -> None:
        """All at once: one by one, between rendering and reading, each took twice as long (cold caches)."""
        for request in self._submitted:
            if isinstance(request.task, Labels):
                self._labels[request.id] = request.task
            self._engine.add_request(request.id, engine_input(request.prompt_ids), self._params(request))
        self._submitted.clear()

    def _params(self, request: EngineRequest) -> Any:
        """VLLM's form of what is asked; benchmarks fix lengths here."""
        return sampling_params(request.task)


def engine_input(prompt_ids: list[int]) -> dict[str, Any]:
    """A prompt as vLLM's own renderer would hand it on (`vllm.inputs.TokensInput`)."""
    return {"type": "token", "prompt_token_ids": prompt_ids}


def engine_arguments(spec: EngineSpec, model: Path) -> dict[str, Any]:
    """The `EngineArgs` of vLLM. Whatever vLLM would guess from hardware or folder, and that matters, is said."""
    on_cpu = spec.means.device == "CPU"
    context = spec.settings.max_model_tokens or _own_context(spec, model)
    batch_tokens = max(CPU_BATCH_TOKENS, context) if on_cpu else GPU_BATCH_TOKENS
    arguments: dict[str, Any] = {
        "model": str(model),
        "trust_remote_code": spec.trust_remote_code,
        "dtype": "auto" if spec.settings.precision == "fp8" else spec.settings.precision,
        "quantization": "fp8" if spec.settings.precision == "fp8" else None,
        "max_model_len": context,
        "max_num_seqs": CPU_SEQUENCES if on_cpu else GPU_SEQUENCES,
        "max_num_batched_tokens": batch_tokens,
        "enable_prefix_caching": True,
        "tensor_parallel_size": spec.means.tensor_parallel_size,
        # Inside a Ray actor vLLM would silently take its `ray` executor.
        "distributed_executor_backend": "uni" if spec.means.tensor_parallel_size == 1 else "mp",
        "generation_config": "vllm",  # the folder's sampling defaults must not change ours; its end tokens still count
        "disable_log_stats": True,
        "seed": 0,
    }
    if on_cpu:
        # A seeded request whose prompt is prefilled in parts crashes on CPU ("Generator does not use offset", 0.32).
        arguments |= {"enable_chunked_prefill": False, "enforce_eager": True, "block_size": CPU_BLOCK_TOKENS}
    else:
        arguments |= {"gpu_memory_utilization": spec.means.gpu_memory_percent / 100}
    return arguments | plain_engine_args(spec.means.engine_args)


def sampling_params(task: Sampling | Labels) -> Any:
    """VLLM's form of what is asked."""
    if isinstance(task, Labels):
        # Never together with `logprobs`: on the V1 runner one such request replaces the batch's (pitfall, 0.32).
        params = copy(_common_params(Sampling(1, 0.0, 1.0, 0, 1, 0)))
        params.logprob_token_ids = list(task)
        return params
    params = copy(_common_params(task._replace(seed=0)))
    params.seed = task.seed if task.temperature > 0 else None
    return params


@lru_cache(maxsize=64)
def _common_params(sampling: Sampling) -> Any:
    """`SamplingParams` but for the seed, checked once: that takes longer than all the rest of a request's way in."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        detokenize=False,  # the loop reads ids and decodes them once
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # copied for each request here: no deep copy
    )


def _answer(output: Any, labels: Labels | None) -> tuple[Sample, ...] | Comparison:
    if labels is None:
        return tuple(
            Sample(tuple(part.token_ids), "length" if part.finish_reason == "length" else "stop")
            for part in sorted(output.outputs, key=lambda part: part.index)
        )
    (next_token,) = output.outputs[0].logprobs
    return Comparison(next_token[labels.first].logprob, next_token[labels.second].logprob)


def _own_context(spec: EngineSpec, model: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, trust_remote_code=spec.trust_remote_code)
    return int(config.get_text_config().max_position_embeddings)


def _cpu_cache_gib(spec: EngineSpec, arguments: dict[str, Any]) -> int:
    """GiB of KV cache: what all sequences need at full length, at most a quarter of the node's memory, shared by its engines."""
    from transformers import AutoConfig

    folder = arguments["model"]
    config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * heads * head_size * (4 if arguments["dtype"] == "float32" else 2)
    needed = bytes_per_token * arguments["max_num_seqs"] * arguments["max_model_len"]
    return max(1, min(-int(-needed // GIB), memory_here() // 4 // spec.engines_here // GIB))


def _vllm_version() -> str:
    import vllm

    return str(vllm.__version__)
