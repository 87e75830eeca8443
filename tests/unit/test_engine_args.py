"""`engineArgs` against the fields that the pinned vLLM has, before any engine starts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from selfalign_api.engine_args import FIELDS, OWNED_ENGINE_ARGS, engine_arg_problems, plain_engine_args
from selfalign_api.means import Compute, GenerationCompute

KNOWN = json.loads(FIELDS.read_text())


def problems(**arguments: Any) -> list[str]:
    compute = Compute(generation=GenerationCompute(engine_args=arguments))
    return [
        str(problem).removeprefix("spec.compute.generation.engineArgs.") for problem in engine_arg_problems(compute)
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"enforce_eager": True, "max_num_seqs": 64},
        {"enforce-eager": True, "max-num-seqs": 64, "block_size": None},
        {"max_num_batched_tokens": 4096.0},
        {"cpu_offload_gb": 4},
        {"compilation_config": {"level": 3}, "cudagraph_capture_sizes": [1, 2]},
        {"attention_backend": "FLASH_ATTN", "scheduling_policy": "priority"},
    ],
)
def test_what_the_engine_takes_is_taken(arguments: dict[str, Any]) -> None:
    assert problems(**arguments) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("enforce_eagr", "enforce_eager"),
        ("max-num-seq", "max_num_seqs"),
        ("max_num_batched_token", "max_num_batched_tokens"),
        ("enforceEager", "enforce_eager"),
        ("enable_prefix_cache", "enable_prefix_caching"),
        ("max_model_length", "max_model_len"),
    ],
)
def test_a_typo_is_told_with_the_name_that_is_nearest(name: str, meant: str) -> None:
    said = f"vLLM {KNOWN['vllm']}, whose arguments these are, has none of this name; write {meant}, or remove it"
    assert problems(**{name: True}) == [f"{name}: true: {said}"]


def test_a_name_like_no_other_is_to_be_removed() -> None:
    (line,) = problems(zzz=1)
    assert line.endswith("has none of this name; remove it")


@pytest.mark.parametrize(
    ("name", "value", "write"),
    [
        ("enforce_eager", "yes", "true or false"),
        ("max_num_seqs", "many", "a whole number"),
        ("max_num_seqs", True, "a whole number"),
        ("cpu_offload_gb", "4", "a number"),
        ("block_size", 16.5, "a whole number"),
        ("scheduling_policy", "lifo", "fcfs, priority"),
        ("cudagraph_capture_sizes", 4, "a list"),
        ("compilation_config", "fast", "a map"),
    ],
)
def test_a_value_of_another_kind_is_told(name: str, value: Any, write: str) -> None:
    (line,) = problems(**{name: value})
    assert line.endswith(f"is no value that vLLM's {name} takes; write {write}")


@pytest.mark.parametrize("name", ["max-model-len", "pipeline_parallel_size", "distributed-executor-backend", "dtype"])
def test_what_we_own_is_refused_with_dashes_and_underscores_alike(name: str) -> None:
    (line,) = problems(**{name: 1})
    assert "remove it" in line


def test_one_argument_in_two_spellings_is_refused() -> None:
    (line,) = problems(**{"max_num_seqs": 4, "max-num-seqs": 8})
    assert line == "max-num-seqs: 8: max_num_seqs stands beside it and is the same; keep one of the two"


def test_what_we_own_is_there_to_be_owned() -> None:
    assert OWNED_ENGINE_ARGS.keys() - KNOWN["fields"].keys() <= {"logits_processors"}  # of the engine's own class


def test_the_engine_gets_them_in_its_own_spelling() -> None:
    assert plain_engine_args({"max-num-seqs": 4, "block_size": 16}) == {"max_num_seqs": 4, "block_size": 16}
