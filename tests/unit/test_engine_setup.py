"""How an engine is set up on a GPU: by arguments alone, so that a machine without one can say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine import EngineFacts
from selfalign_jobs.generate.engine_setup import EngineSpec, engine_arguments, environment
from selfalign_jobs.generate.in_flight import max_open_flows

HOPPER, BLACKWELL, CONSUMER_BLACKWELL = (9, 0), (10, 0), (12, 0)


def arguments(
    precision: str = "bfloat16", capability: tuple[int, int] | None = HOPPER, device: str = "GPU", **engine_args: Any
) -> dict[str, Any]:
    settings = EngineSettings(precision=precision, max_model_tokens=4096)  # type: ignore[arg-type]
    means = GenerationMeans(device=device, engine_args=engine_args)  # type: ignore[arg-type]
    return engine_arguments(EngineSpec(settings, means), Path("/model"), capability)


def test_no_engine_on_a_gpu_compiles_a_sampler() -> None:
    assert environment(GenerationMeans(device="GPU"), threads=1)["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_batch_sizes_and_prefix_caching_on_a_gpu_are_vllms_own() -> None:
    assert not {"max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching"} & arguments().keys()


def test_the_users_arguments_win_however_they_are_spelt() -> None:
    given = arguments(device="CPU", **{"max-num-seqs": 8, "max_num_batched_tokens": 512})
    assert (given["max_num_seqs"], given["max_num_batched_tokens"]) == (8, 512)
    assert "max-num-seqs" not in given


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32", "fp8"])
@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_logits_are_float32_whatever_the_weights_are(precision: str, device: str) -> None:
    assert arguments(precision, device=device)["hf_overrides"] == {"head_dtype": "float32"}


def test_fp8_is_quantised_as_it_is_loaded() -> None:
    """vLLM 0.32 takes `fp8` for folders that are quantised already."""
    given = arguments("fp8")
    assert (given["dtype"], given["quantization"]) == ("auto", "fp8_per_tensor")
    assert "quantization" not in arguments("bfloat16")


@pytest.mark.parametrize(
    ("capability", "precision", "backend"),
    [
        (BLACKWELL, "bfloat16", "FLASH_ATTN"),
        ((10, 3), "float16", "FLASH_ATTN"),
        (BLACKWELL, "fp8", "FLASH_ATTN"),
        (BLACKWELL, "float32", "TRITON_ATTN"),  # FlashAttention has no float32
        (HOPPER, "bfloat16", None),
        ((8, 0), "bfloat16", None),
        (CONSUMER_BLACKWELL, "bfloat16", None),
        (None, "bfloat16", None),
    ],
)
def test_where_vllm_would_take_flashinfers_attention_another_is_named(
    capability: tuple[int, int] | None, precision: str, backend: str | None
) -> None:
    assert arguments(precision, capability).get("attention_backend") == backend


@pytest.mark.parametrize(
    "given", [{"attention-backend": "TRITON_ATTN"}, {"attention_config": {"backend": "FLASHINFER"}}]
)
def test_an_attention_that_the_user_names_stays(given: dict[str, Any]) -> None:
    expected = {name.replace("-", "_"): value for name, value in given.items()}
    found = arguments(capability=BLACKWELL, **given)
    assert {name: found.get(name) for name in ("attention_backend", "attention_config") if name in found} == expected


@pytest.mark.parametrize(
    ("kv_tokens", "flows"),
    [
        (None, 1280),  # as much as its sequences can need
        (10_000_000, 1280),
        (400_000, 390),  # an 8B model on a card of 80 GB
        (145_000, 141),  # Gemma-2-9B there
        (6144, 6),  # one request at its longest
        (500, 1),
    ],
)
def test_no_more_flows_are_open_than_the_kv_cache_bears(kv_tokens: int | None, flows: int) -> None:
    facts = EngineFacts(context_tokens=6144, max_sequences=1024, start_seconds=0.0, kv_tokens=kv_tokens)
    assert max_open_flows(facts) == flows
