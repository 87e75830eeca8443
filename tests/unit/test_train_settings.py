"""Budgets and steps, and what cannot be is refused with what to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.plan import ModelRef, Prepare, Train
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora, Loss, TrainSettings
from selfalign_jobs.train.settings import batches_of, check, deepspeed_config, rank_count, uses_deepspeed, zero_stage_of
from selfalign_jobs.train.steps import Layout, order


def step(loss: str = "simpo", smoothing: float = 0.0, **settings: Any) -> Train:
    """A train step with these settings."""
    return Train(
        name="iter-1-train",
        iteration=1,
        loss=Loss.model_validate({"type": loss, "label_smoothing": smoothing}),
        data=Prepare(fn="pairs"),
        start=ModelRef(),
        objective=settings.pop("objective", "preference"),
        reference=settings.pop("reference", None),
        result=ModelRef(iteration=1),
        settings=TrainSettings(**({"learning_rate": 1e-3} | settings)),
    )


CPU = TrainingMeans(device="CPU")


LENGTHS = np.array([[10, 20, 30], [5, 6, 7]])  # 59 places packed, 80 padded


@pytest.mark.parametrize(("packed", "largest"), [(True, 59), (False, 80)])
def test_the_budget_is_what_is_asked_for_or_what_there_is_room_for_and_holds_the_largest_example(
    packed: bool, largest: int
) -> None:
    settings = TrainSettings(learning_rate=1)
    assert batches_of(settings, 1, LENGTHS, 1000, 50, Layout(packed)).budget == 1000
    assert batches_of(settings, 1, LENGTHS, None, 500, Layout(packed)).budget == 500
    assert batches_of(settings, 1, LENGTHS, None, 50, Layout(packed)).budget == largest
    assert batches_of(settings, 1, LENGTHS, None, None, Layout(packed)).budget is None  # the ranks will measure it
    assert batches_of(settings, 1, LENGTHS, 1000, None, Layout(packed)).budget == 1000
    message = rf"microBatchTokens: 50 is less than the largest example takes .* write at least {largest}"
    with pytest.raises(ConfigError, match=message):
        batches_of(settings, 1, LENGTHS, 50, 500, Layout(packed))


@given(st.integers(1, 512), st.integers(1, 500), st.floats(0.01, 5))
def test_steps_are_those_of_the_order(batch: int, rows: int, epochs: float) -> None:
    settings = TrainSettings(learning_rate=1, global_batch_size=batch, epochs=epochs)
    found = batches_of(settings, 1, np.ones((rows, 3), np.int64), None, 100, Layout(packed=True))
    assert found.steps == len(order(rows, epochs, batch, 0))


@pytest.mark.parametrize(
    ("made", "means", "message"),
    [
        (
            step(global_batch_size=3),
            TrainingMeans(device="GPU", nodes=2, gpus_per_node=4),
            r"globalBatchSize: 3 is less than the ranks \(.*: 8\).* write at least 8",
        ),
        (step(max_prompt_tokens=2048), CPU, "maxPromptTokens.*leaves no room"),
        (step("sft"), CPU, "sft is no loss of a training on pairs; write dpo or"),
        (
            step("bradley-terry", objective="reward", overlong="Truncate"),
            CPU,
            "would cut the end that a reward is read at",
        ),
        (step("dpo"), CPU, "loss dpo needs a reference; write initial or previous"),
        (step(smoothing=0.1), CPU, "labelSmoothing.* is defined for dpo and ipo"),
        (step(precision="float16"), CPU, "float16 is not trained on a CPU; write float32 or bfloat16"),
        (step(lora=Lora(target_modules=("q_proj", "lm_head"))), CPU, "remove lm_head"),
        (step(), TrainingMeans(device="CPU", zero_stage=0, offload="Optimizer"), "needs zeroStage 1, 2 or 3"),
        (step(), TrainingMeans(device="CPU", zero_stage=2, offload="OptimizerAndParameters"), "needs zeroStage: 3"),
        (
            step(),
            TrainingMeans(device="GPU", gpus_per_node=2, zero_stage=0),
            "zeroStage: 0 has no float32 copy .* write 1",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(made: Train, means: TrainingMeans, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(made, means)


def test_a_good_step_passes() -> None:
    check(step("dpo", reference=ModelRef(), smoothing=0.1), CPU)
    check(step(precision="float32"), TrainingMeans(device="CPU", nodes=2, zero_stage=0))
    check(step(), TrainingMeans(device="GPU", gpus_per_node=1, zero_stage=0))  # one rank, without DeepSpeed


def test_a_rank_is_a_gpu_and_on_cpu_a_node() -> None:
    assert rank_count(TrainingMeans(device="GPU", nodes=2, gpus_per_node=4)) == 8
    assert rank_count(TrainingMeans(device="CPU", nodes=2)) == 2


def test_deepspeed_is_there_where_there_is_something_to_shard_or_offload() -> None:
    assert not uses_deepspeed(CPU)
    assert uses_deepspeed(TrainingMeans(device="CPU", nodes=2, zero_stage=0))
    assert uses_deepspeed(TrainingMeans(device="CPU", offload="Optimizer"))


@pytest.mark.parametrize(
    ("given", "stage"),
    [
        ({"gpus_per_node": 4}, None),  # 2 or 3, as fits
        ({"gpus_per_node": 4, "offload": "Optimizer"}, None),
        ({"gpus_per_node": 4, "offload": "OptimizerAndParameters"}, 3),
        ({"gpus_per_node": 4, "zero_stage": 0}, 0),
        ({"gpus_per_node": 4, "zero_stage": 1, "offload": "Optimizer"}, 1),
        ({"gpus_per_node": 1, "offload": "Optimizer"}, 3),
        ({"gpus_per_node": 1, "offload": "Optimizer", "zero_stage": 2}, 2),
        ({"gpus_per_node": 1, "zero_stage": 2}, None),  # no DeepSpeed
        ({"device": "CPU", "nodes": 2}, None),
    ],
)
def test_a_zero_stage_is_the_one_written_or_left_to_what_fits(given: dict[str, Any], stage: int | None) -> None:
    assert zero_stage_of(TrainingMeans.model_validate({"device": "GPU"} | given)) == stage


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeeds_configuration_is_all_in_numbers(stage: int) -> None:
    means = TrainingMeans.model_validate({"device": "GPU", "gpus_per_node": 2})
    config = deepspeed_config(TrainSettings(learning_rate=1), means, stage)
    assert "auto" not in str(config)
    assert config["zero_optimization"]["stage"] == stage
    assert ("stage3_gather_16bit_weights_on_model_save" in config["zero_optimization"]) == (stage == 3)
