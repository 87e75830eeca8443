"""The estimate of what fits moves the right way with what it depends on, and the ZeRO stage with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora, TrainSettings
from selfalign_jobs.train import memory
from selfalign_jobs.train.memory import ROOMY, Estimate, dora_bytes, state_bytes, token_bytes

SETTINGS = TrainSettings(learning_rate=1)
LORA, DORA = (TrainSettings(learning_rate=1, lora=Lora(dora=dora)) for dora in (False, True))
SHAPE = {"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 128_256, "intermediate_size": 14_336}
EIGHT = 8e9  # parameters of that shape
GIB = 2.0**30


def means(gpus: int, **values: Any) -> TrainingMeans:
    """On GPUs of one node."""
    return TrainingMeans.model_validate({"device": "GPU", "gpus_per_node": gpus} | values)


def estimate(gpus: int, settings: TrainSettings = SETTINGS, card: float = 80, **values: Any) -> Estimate:
    """Of that model on cards of so many GiB."""
    return Estimate(SHAPE, EIGHT, card * GIB, settings, means(gpus, **values))


def test_a_models_folder_says_its_shape_and_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"dtype": "bfloat16"}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(16 * 10**9)  # a hole: it takes no room
    monkeypatch.setattr(memory, "_memory", lambda *_: 80 * GIB)
    found = Estimate.of(tmp_path, SETTINGS, means(8), 8)
    assert (found.parameters, found.memory, found.shape["hidden_size"]) == (EIGHT, 80 * GIB, 4096)


def test_eight_billion_parameters_fit_on_eight_gpus_and_not_on_one() -> None:
    assert estimate(8).places(3) > 4096
    assert estimate(1).places(None) == 1


def test_a_cpu_bears_what_is_estimated_up_to_a_bound_and_a_gpu_is_measured() -> None:
    assert estimate(8).room(3) is None
    on_cpu = {"device": "CPU", "gpus_per_node": 0}
    assert [Estimate(SHAPE, EIGHT, gib * GIB, SETTINGS, means(0, **on_cpu)).room(None) for gib in (64, 4096)] == [
        1,
        2_048,
    ]


def test_sharding_offload_lora_and_checkpointing_make_room() -> None:
    places = [estimate(8).places(stage) for stage in (1, 2, 3)]
    assert places == sorted(set(places))
    assert estimate(2, offload="Optimizer").places(3) > estimate(2).places(3)
    assert estimate(1, LORA).places(None) > estimate(1).places(None)
    assert estimate(8).places(3) > estimate(8, activation_checkpointing="None").places(3)


def test_one_rank_without_deepspeed_holds_what_it_trains_in_float32() -> None:
    assert state_bytes(EIGHT, LORA, means(1), None) == pytest.approx((2 + 16 * 0.02) * EIGHT)
    assert state_bytes(EIGHT, LORA, means(1, offload="Optimizer"), 3) < 2.1 * EIGHT
    assert state_bytes(EIGHT, SETTINGS, means(1), None) == 16 * EIGHT


def test_dora_takes_more_than_lora_a_place_and_at_once() -> None:
    assert (
        token_bytes(SHAPE, DORA, means(1))
        > token_bytes(SHAPE, LORA, means(1))
        == token_bytes(SHAPE, SETTINGS, means(1))
    )
    assert dora_bytes(SHAPE, LORA) == dora_bytes(SHAPE, SETTINGS) == 0
    # The product of the adapter on a unit matrix of the widest layer's input.
    assert dora_bytes(SHAPE, DORA) > 4 * 14_336**2
    assert estimate(1, DORA).places(None) < estimate(1, LORA).places(None)


@pytest.mark.parametrize(
    ("gpus", "card", "settings", "longest", "stage"),
    [
        (4, 80, SETTINGS, 4096, 2),  # 44.9 GiB of states
        (2, 80, SETTINGS, 4096, 3),  # 74.8 GiB: what is left is too little to compute with
        (2, 80, LORA, 4096, 2),
        (8, 24, SETTINGS, 4096, 3),
        (4, 80, SETTINGS, 30_000, 3),  # the longest example alone needs the room
    ],
)
def test_the_stage_is_2_where_its_states_leave_room_and_3_elsewhere(
    gpus: int, card: float, settings: TrainSettings, longest: int, stage: int
) -> None:
    assert estimate(gpus, settings, card).zero_stage(longest) == stage


@given(
    gpus=st.integers(2, 64),
    card=st.floats(4, 300),
    billions=st.floats(0.1, 100),
    longest=st.integers(1, 40_000),
    settings=st.sampled_from([SETTINGS, LORA, DORA]),
    offload=st.sampled_from(["None", "Optimizer"]),
)
def test_stage_2_holds_a_micro_batch_worth_it_and_the_longest_example(
    gpus: int, card: float, billions: float, longest: int, settings: TrainSettings, offload: str
) -> None:
    found = Estimate(SHAPE, billions * 1e9, card * GIB, settings, means(gpus, offload=offload))
    chosen = found.zero_stage(longest)
    assert (chosen == 2) == (found.places(2) >= max(longest, ROOMY))
    # A larger card never asks for more sharding.
    larger = Estimate(SHAPE, billions * 1e9, 2 * card * GIB, settings, means(gpus, offload=offload))
    assert larger.zero_stage(longest) <= chosen
