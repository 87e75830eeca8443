"""Batches come out exactly, and what cannot be is refused with what to write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Lora, Loss, ModelRef, Prepare, Train, TrainSettings
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.train.settings import check, deepspeed_config, layout, rank_count, uses_deepspeed


def step(loss: str = "simpo", smoothing: float = 0.0, **settings: Any) -> Train:
    """A train step with these settings."""
    return Train(
        name="iter-1-train",
        iteration=1,
        loss=Loss.model_validate({"type": loss, "label_smoothing": smoothing}),
        data=Prepare(fn="pairs"),
        start=ModelRef(),
        reference=settings.pop("reference", None),
        result=ModelRef(iteration=1),
        settings=TrainSettings(**({"learning_rate": 1e-3} | settings)),
    )


CPU = TrainingMeans(device="CPU")


@given(st.integers(1, 512), st.integers(1, 16), st.integers(1, 5000), st.integers(2, 4096), st.integers(2, 10**6))
def test_the_global_batch_is_exact_or_refused(batch: int, ranks: int, pairs: int, longest: int, tokens: int) -> None:
    settings = TrainSettings(learning_rate=1, global_batch_size=batch, epochs=1.5)
    if batch % ranks or 2 * longest > tokens:
        with pytest.raises(ConfigError):
            layout(settings, ranks, pairs, longest, tokens)
        return
    found = layout(settings, ranks, pairs, longest, tokens)
    assert found.ranks * found.micro_batch * found.accumulation == batch
    assert found.micro_batch * 2 * longest <= tokens
    assert (found.steps - 1) * batch < max(1, round(1.5 * pairs)) <= found.steps * batch


def test_an_indivisible_batch_says_what_to_write() -> None:
    settings = TrainSettings(learning_rate=1, global_batch_size=32)
    with pytest.raises(
        ConfigError, match=r"spec\.training\.globalBatchSize: 32 is not a multiple of the 3 ranks .* write 30 or 33"
    ):
        layout(settings, 3, 100, 10, 10_000)


def test_a_micro_batch_too_small_for_a_pair_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"microBatchTokens: 100 is less than one pair .* write at least 120"):
        layout(TrainSettings(learning_rate=1), 1, 100, 60, 100)


@pytest.mark.parametrize(
    ("made", "means", "message"),
    [
        (step(max_prompt_tokens=2048), CPU, "maxPromptTokens.*leaves no room"),
        (step("sft"), CPU, "sft is not built yet; write one of dpo"),
        (step("dpo"), CPU, "loss dpo needs a reference; write initial or previous"),
        (step(smoothing=0.1), CPU, "labelSmoothing.* is defined for dpo and ipo"),
        (step(precision="float16"), CPU, "float16 is not trained on a CPU; write float32 or bfloat16"),
        (step(lora=Lora(target_modules=("q_proj", "lm_head"))), CPU, "remove lm_head"),
        (step(), TrainingMeans(device="CPU", zero_stage=0, offload="Optimizer"), "needs zeroStage 1, 2 or 3"),
        (step(), TrainingMeans(device="CPU", zero_stage=2, offload="OptimizerAndParameters"), "needs zeroStage: 3"),
    ],
)
def test_what_cannot_be_trained_is_refused(made: Train, means: TrainingMeans, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(made, means)


def test_a_good_step_passes() -> None:
    check(step("dpo", reference=ModelRef(), smoothing=0.1), CPU)


def test_a_rank_is_a_gpu_and_on_cpu_a_node() -> None:
    assert rank_count(TrainingMeans(device="GPU", nodes=2, gpus_per_node=4)) == 8
    assert rank_count(TrainingMeans(device="CPU", nodes=2)) == 2


def test_deepspeed_is_there_where_there_is_something_to_shard_or_offload() -> None:
    assert not uses_deepspeed(CPU)
    assert uses_deepspeed(TrainingMeans(device="CPU", nodes=2, zero_stage=0))
    assert uses_deepspeed(TrainingMeans(device="CPU", offload="Optimizer"))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeeds_configuration_is_all_in_numbers(stage: int) -> None:
    means = TrainingMeans.model_validate({"device": "GPU", "gpus_per_node": 2, "zero_stage": stage})
    settings = TrainSettings(learning_rate=1, global_batch_size=8)
    config = deepspeed_config(settings, means, layout(settings, 2, 100, 10, 40))
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (2, 2)
    assert "auto" not in str(config)
    assert config["zero_optimization"]["stage"] == stage
    assert ("stage3_gather_16bit_weights_on_model_save" in config["zero_optimization"]) == (stage == 3)
