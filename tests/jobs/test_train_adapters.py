"""Adapters on CPU: DoRA and rank-stabilised scales as their papers have them, and an adapter that is published alone."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pytest
import torch
import trainings
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign_api.plan import Plan, Publish
from selfalign_api.training_values import Lora
from selfalign_jobs.places.store import Manifest, read_parts, write_manifest
from selfalign_jobs.publish.program import publish
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.adapter import base_of, save_adapter
from selfalign_jobs.train.card import card
from selfalign_jobs.train.policy import lora_config
from selfalign_jobs.train.program import train

pytestmark = pytest.mark.heavy
MANIFEST = Manifest(
    step="iter-1-train", kind="train", digest="sha256:0", recipe="sao", version="0", attempt=1, started="", finished="",
    active_seconds=1.0, seed=0, model="model",
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    return trainings.pairs(80)


def losses_of(context: StepContext, manifest: Manifest) -> list[float]:
    losses: list[float] = read_parts(context.folder, manifest.tables["log"])["loss"].to_pylist()
    return losses


def weights(context: StepContext) -> dict[str, torch.Tensor]:
    return load_file(Path(context.folder.local or "") / "model" / "model.safetensors")


def test_dora_with_rank_stabilised_scale_trains_and_merges_as_peft_does(tmp_path: Path, pairs: pa.Table) -> None:
    lora = Lora(rank=4, alpha=8, target_modules=("q_proj", "v_proj"), dora=True, rank_stabilized=True)
    settings = {"lora": lora, "learning_rate": 5e-3, "global_batch_size": 16, "epochs": 4}
    plan, step = trainings.training(settings=settings)
    context = trainings.context(plan, tmp_path, pairs)
    losses = losses_of(context, train(context, step))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    adapter = Path(context.folder.local or "") / "model" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == (True, True)
    assert config["base_model_name_or_path"] == trainings.MODEL.resolve().as_uri()  # and not the folder that it was in
    trained = load_file(adapter / "adapter_model.safetensors")
    assert sum("lora_magnitude_vector" in name for name in trained) == 3 * 2
    # By the paper's formula (arXiv 2402.09353, eq. 5) with alpha/√rank: m·(W + s·BA)/‖W + s·BA‖ of each row.
    layer = "base_model.model.model.layers.1.self_attn.q_proj"
    given = load_file(trainings.MODEL / "model.safetensors")["model.layers.1.self_attn.q_proj.weight"].double()
    moved = given + 8 / 4**0.5 * trained[f"{layer}.lora_B.weight"].double() @ trained[f"{layer}.lora_A.weight"].double()
    expected = trained[f"{layer}.lora_magnitude_vector"].double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
    assert torch.allclose(weights(context)["model.layers.1.self_attn.q_proj.weight"].double(), expected, atol=1e-5)


def test_an_adapter_alone_is_published_with_all_that_loads_it(tmp_path: Path) -> None:
    plan, step = trainings.training(settings={"lora": Lora(rank=4)})
    out = tmp_path / "out"
    copy = Publish(iteration=1, model=step.result, pairs=(), url=out.as_uri(), dataset_url=None, adapter="Keep")
    plan = Plan.model_validate(plan.model_dump() | {"steps": [step, copy]})
    context = trainings.context(plan, tmp_path / "run", trainings.pairs(1))

    config = lora_config(Lora(rank=4), trainings.MODEL, remote_code=False)
    config.init_lora_weights = False  # as if trained: at random, so that they change the model
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype=torch.float32), config)
    folder = Path(context.folder.local or "") / "model"
    save_adapter(model, model.state_dict(), folder / "adapter", trainings.MODEL, plan.models["policy"].url)
    (folder / "adapter" / "README.md").write_text(card(plan, step, [], 1, adapter=True))
    (folder / "model.safetensors").write_bytes(b"the merged one")
    write_manifest(context.folder, MANIFEST)
    publisher = StepContext.of(context.config.model_copy(update={"step": copy.name}), Progress(copy.name), Event())
    publish(publisher, copy)

    names = {file.name for file in out.iterdir()}
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
        "selfalign.json",
    } <= names
    assert not any(name.startswith(("model", "config")) for name in names)
    assert "library_name: peft" in (out / "README.md").read_text()
    assert "LoRA, rank 4, scale 32/4; alone" in (out / "README.md").read_text()
    assert AutoTokenizer.from_pretrained(out).chat_template
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype=torch.float32), out)
    expected = model.merge_and_unload().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read.merge_and_unload().state_dict().items())
    given = load_file(trainings.MODEL / "model.safetensors")
    assert not torch.equal(
        expected["model.layers.0.mlp.up_proj.weight"], given["model.layers.0.mlp.up_proj.weight"].float()
    )


@pytest.mark.parametrize(
    ("url", "name", "revision"),
    [
        ("hf://org/name", "org/name", None),
        ("hf://org/name@abc123", "org/name", "abc123"),
        ("s3://bucket/models/base", "s3://bucket/models/base", None),
        ("pvc://claim/base", "pvc://claim/base", None),
        (None, None, None),
    ],
)
def test_an_adapter_names_its_base_as_whoever_loads_it_does(
    url: str | None, name: str | None, revision: str | None
) -> None:
    assert base_of(url) == (name, revision)
