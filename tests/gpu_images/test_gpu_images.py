"""The images for GPUs as far as a machine without one can tell: what is imported, accepted, decided by vLLM, compiled.

The driver is played (`driver/`): it says which GPU is there, and that there is none as soon as one is to be used.
"""

from __future__ import annotations

from typing import Any

import pytest
from gpu_pods import EXAMPLES, GENERATE, SECONDS, TRAIN, Examples

from selfalign_api.outcome import Exit
from selfalign_operator.effective import Attempt

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(4 * SECONDS)]
ON_GPUS = [name for name in EXAMPLES if "8b" in name or "9b" in name]
# Compute capability → generation of vLLM's FlashAttention kernels for Llama-3 and for Gemma-2, whose heads of 256 are capped.
ATTENTION = {"80": (2, 2), "90": (3, 3), "100": (4, 2)}
BATCH = {"80": (256, 8192), "90": (1024, 16384), "100": (1024, 16384)}  # vLLM's own choice, where a run leaves it
ROOMS_ELSEWHERE = {"i1-generate": "train,local", "i1-train": "generate,evaluate,local"}
EACH = pytest.mark.parametrize("attempt", [GENERATE, TRAIN], ids=["generate", "train"])


@EACH
def test_all_that_a_step_imports_is_there(examples: Examples, attempt: Attempt) -> None:
    (found,) = examples.program("imports", attempt, {"ELSEWHERE": ROOMS_ELSEWHERE[attempt.step]})
    assert found["failed"] == {}
    assert found["imports"] > 100


@EACH
def test_triton_compiles_for_each_gpu_and_its_launcher_for_this_machine(examples: Examples, attempt: Attempt) -> None:
    (found,) = examples.program("kernels", attempt, {})
    assert set(found["cubins"]) == {"80", "90", "100"}
    assert found["launcher"] == "CudaUtils"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_accepted(examples: Examples, name: str) -> None:
    accepted = examples.accept(name)
    assert accepted.wait(0) == Exit.DONE, accepted.log[-4000:]


@pytest.fixture(scope="module", params=ATTENTION)
def decided(request: pytest.FixtureRequest, examples: Examples) -> tuple[str, dict[str, Any]]:
    """A compute capability, and what vLLM decides there for each example."""
    for name in ON_GPUS:
        examples.accept(name)
    lines = examples.program("engine_config", GENERATE, {"RUNS": examples.run_files(ON_GPUS)}, capability=request.param)
    return str(request.param), {line["run"]: line for line in lines}


def test_vllm_takes_every_example_on_every_gpu(decided: tuple[str, dict[str, Any]]) -> None:
    capability, runs = decided
    assert list(runs) == ON_GPUS
    for line in runs.values():
        assert (line["attention"], line["runner"], line["head"]) == ("FLASH_ATTN", "V2", "float32"), line
        is_gemma = "gemma" in line["run"]
        assert line["flashAttention"] == ATTENTION[capability][is_gemma], line
        assert line["model"] == ("Gemma2ForCausalLM" if is_gemma else "LlamaForCausalLM")
    shortest = runs["sao-llama-3-8b"]  # says nothing of batches
    assert (shortest["sequences"], shortest["batchTokens"]) == BATCH[capability]


def test_nothing_is_fetched_or_compiled_by_nvcc_before_the_device_is_asked(decided: tuple[str, dict[str, Any]]) -> None:
    for line in decided[1].values():
        assert line["asked"]["network"] == []
        assert not [program for program in line["asked"]["programs"] if "nvcc" in program or "ninja" in program]
