"""The estimate of what fits moves the right way with what it depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign_api.plan import Lora, TrainSettings
from selfalign_api.run_file import TrainingMeans
from selfalign_jobs.train import memory

SETTINGS = TrainSettings(learning_rate=1)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of eight billion parameters, on a GPU of 80 GiB."""
    shape = {"hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 128_256, "intermediate_size": 14_336}
    (tmp_path / "config.json").write_text(json.dumps(shape | {"dtype": "bfloat16"}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(16 * 10**9)  # a hole: it takes no room
    monkeypatch.setattr(memory, "_memory", lambda *_: 80.0 * 2**30)
    return tmp_path


def tokens(model: Path, ranks: int, settings: TrainSettings = SETTINGS, **means: object) -> int:
    """The estimate on GPUs."""
    values = {"device": "GPU", "gpus_per_node": ranks} | means
    return memory.micro_batch_tokens(model, settings, TrainingMeans.model_validate(values), ranks, ranks)


def test_eight_billion_parameters_fit_on_eight_gpus_and_not_on_one(model: Path) -> None:
    assert tokens(model, 8) > 4096
    assert tokens(model, 1) == 1


def test_sharding_offload_lora_and_checkpointing_make_room(model: Path) -> None:
    assert tokens(model, 8, zero_stage=1) < tokens(model, 8, zero_stage=2) < tokens(model, 8, zero_stage=3)
    assert tokens(model, 2, offload="Optimizer") > tokens(model, 2)
    assert tokens(model, 1, TrainSettings(learning_rate=1, lora=Lora())) > tokens(model, 1)
    assert tokens(model, 8) > tokens(model, 8, activation_checkpointing="None")


def test_one_rank_without_deepspeed_holds_what_it_trains_in_float32() -> None:
    lora, eight = TrainSettings(learning_rate=1, lora=Lora()), 8e9
    one = TrainingMeans(device="GPU", gpus_per_node=1)
    offloaded = one.model_copy(update={"offload": "Optimizer"})
    assert memory.state_bytes(eight, 2, lora, one, 1) == pytest.approx((2 + 16 * 0.02) * eight)
    assert memory.state_bytes(eight, 2, lora, offloaded, 1) < 2.1 * eight
    assert memory.state_bytes(eight, 2, SETTINGS, one, 1) == 16 * eight
