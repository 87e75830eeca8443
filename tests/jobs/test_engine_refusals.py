"""What vLLM refuses is the user's configuration, at a field: by its real arguments, configurations and messages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import MODEL

from selfalign_api.engine_args import OWNED_ENGINE_ARGS
from selfalign_api.errors import ConfigError
from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine_refusals import configuring, starting
from selfalign_jobs.generate.engine_setup import EngineSpec, engine_arguments, environment

pytestmark = pytest.mark.heavy
FREE = "Free memory on device cuda:0 (10.0/79.2 GiB) on startup is less than desired GPU memory utilization (0.9, 71.3 GiB)"


@pytest.fixture(autouse=True, name="in_environment")
def _in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(GenerationMeans(device="CPU"), threads=1).items():
        monkeypatch.setitem(os.environ, name, value)


def spec_of(**given: Any) -> EngineSpec:
    settings = EngineSettings(precision=given.pop("precision", "float32"), max_model_tokens=given.pop("context", 256))
    size = given.pop("tensor_parallel_size", 1)
    return EngineSpec(settings, GenerationMeans(device="CPU", tensor_parallel_size=size, engine_args=given))


def refused(spec: EngineSpec, act: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught, configuring(spec), starting(spec):
        act()
    return str(caught.value)


def configure(spec: EngineSpec) -> None:
    from vllm import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    EngineArgs(**engine_arguments(spec, MODEL)).create_engine_config(UsageContext.LLM_CLASS)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"context": 100_000},
            "spec.generation.maxModelTokens: 100000 tokens are beyond the model's own context of 512; write at most that",
        ),
        (
            {"tensor_parallel_size": 3},
            "spec.compute.generation.tensorParallelSize: 3: does not divide the model's 4 attention heads",
        ),
        (
            {"max_sequences": 8},
            "spec.compute.generation.engineArgs.max_sequences: the pinned vLLM has no such argument; remove it",
        ),
        (
            {"max-num-seqs": -1},
            "spec.compute.generation.engineArgs.max-num-seqs: -1: vLLM refuses it: max_num_seqs: Input should be greater",
        ),
        (
            {"max_num_seqs": "many"},
            "spec.compute.generation.engineArgs.max_num_seqs: many: vLLM refuses it: max_num_seqs: Input should be a valid",
        ),
        (
            {"attention-backend": "NOPE"},
            "spec.compute.generation.engineArgs.attention-backend: NOPE: vLLM refuses it: Unknown attention backend",
        ),
        (
            {"scheduling_policy": "x", "enforce_eager": True},
            "spec.compute.generation.engineArgs.scheduling_policy: x: vLLM refuses it: policy: Input should be 'fcfs' or",
        ),
        (
            {"max_num_batched_tokens": 8},
            "spec.compute.generation.engineArgs.max_num_batched_tokens: 8: vLLM refuses it: Value error, max_num_batched",
        ),
    ],
)
def test_what_the_pinned_vllm_refuses_is_told_at_its_field(given: dict[str, Any], line: str) -> None:
    spec = spec_of(**given)
    assert refused(spec, lambda: configure(spec)).startswith(line)


def test_what_it_takes_passes_however_it_is_spelt() -> None:
    configure(spec_of(**{"max-num-seqs": 8, "max_num_batched_tokens": 512}))


def test_a_context_that_does_not_fit_the_kv_cache_names_the_one_that_does() -> None:
    from vllm.v1.core.kv_cache_utils import _check_enough_kv_cache_memory as check

    line = refused(spec_of(), lambda: check(2 << 30, lambda: 16 << 30, 131072, lambda _: 16368))
    assert line == (
        "spec.generation.maxModelTokens: a context of 131072 tokens needs 16.0 GiB of KV cache and 2.0 GiB are left beside "
        "the weights; write at most 16368, or a larger compute.generation.tensorParallelSize"
    )


def test_where_no_context_fits_it_says_so() -> None:
    from vllm.v1.core.kv_cache_utils import _check_enough_kv_cache_memory as check

    line = refused(spec_of(), lambda: check(2 << 20, lambda: 16 << 30, 131072, lambda _: 0))
    assert (
        line.startswith("spec.generation.maxModelTokens: a context of 131072 tokens needs 16.0 GiB")
        and "write less" in line
    )
    line = refused(spec_of(), lambda: check(-1, lambda: 1, 256, lambda _: 0))
    assert line.startswith("spec.compute.generation.gpuMemoryPercent: leaves no memory for the KV cache")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"
        ),
        RuntimeError(
            "CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering "
            "`max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
        ),
        RuntimeError(
            "Worker failed with error 'CUDA out of memory. Tried to allocate 64.00 MiB', please check the stack trace above"
        ),
    ],
    ids=["weights", "sampler", "another rank"],
)
def test_out_of_memory_says_what_to_lower(error: Exception) -> None:
    def fail() -> None:
        raise error

    line = refused(spec_of(), fail)
    assert line.startswith("spec.compute.generation.gpuMemoryPercent: the engine ran out of GPU memory as it started")
    for named in ("maxModelTokens", "max_num_seqs", "tensorParallelSize"):
        assert named in line


@pytest.mark.parametrize("error", [ValueError(FREE), RuntimeError("NCCL error"), OSError("no such file")])
def test_what_may_pass_is_not_the_users_configuration(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)[:8]), starting(spec_of()):
        raise error


def test_every_argument_that_we_own_is_one_of_the_pinned_vllm() -> None:
    from vllm import EngineArgs

    assert OWNED_ENGINE_ARGS.keys() <= {field.name for field in fields(EngineArgs)}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("config/model.py", "Quantization method specified in the model config "),
        ("model_executor/layers/logits_processor.py", "A head_dtype different from the model dtype is only "),
        ("model_executor/models/registry.py", "Model architectures {"),
        ("config/parallel.py", "is larger than the number of "),
        ("platforms/cuda.py", "Selected backend {selected_backend} is not valid for "),
        ("platforms/cuda.py", "Bfloat16 is only supported on GPUs "),
        ("v1/worker/gpu_model_runner.py", "CUDA out of memory occurred when warming up sampler with "),
    ],
)
def test_vllm_says_these_words_still(file: str, words: str) -> None:
    """Of messages that only a GPU, or a model that is not here, brings about."""
    import vllm

    assert words in (Path(vllm.__file__).parent / file).read_text()
