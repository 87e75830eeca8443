"""Targets, rewards and gaps: what the model gives, against transformers and TRL where they compute the same thing.

SFT is TRL's SFTTrainer (loss over the completion, mean over the targets of the global batch). A reward model is its
RewardTrainer while answers end with no pad token; TRL makes the end token its padding where the tokenizer has none, and then
reads one token early. TRL has no gap model and no SELM.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import packed_models
import pyarrow as pa
import pytest
import torch
import trainings
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from selfalign_api.plan import ModelRef, Prepare, Train
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora, Loss, Optimizer, TrainSettings
from selfalign_jobs.places.store import read_parts
from selfalign_jobs.train import program
from selfalign_jobs.train.attention import NAME
from selfalign_jobs.train.dataset import TokenIds, lengths_of
from selfalign_jobs.train.loader import Steps, collator
from selfalign_jobs.train.objectives import objective_of
from selfalign_jobs.train.packing import pack
from selfalign_jobs.train.padding import pad
from selfalign_jobs.train.scoring import add_reward_head, answer_scores
from selfalign_jobs.train.settings import Reads, trainer_arguments
from selfalign_jobs.train.steps import Layout, order
from selfalign_jobs.train.trainer import StepTrainer

ROWS, RATE = 8, 1e-3
EPSILON = 1e-3  # of Adam: with less, a gradient that is only rounding would be a step of its own


def reward_model(name: str) -> Any:
    config = copy.deepcopy(packed_models.CONFIGS[name])
    config.num_labels = 1
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    add_reward_head(model)
    return model.train()


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral"])
def test_rewards_and_gradients_are_those_of_each_sequence_alone(name: str) -> None:
    model, examples = reward_model(name), packed_models.examples(2)
    alone = torch.stack(
        [
            torch.stack([model(torch.tensor(np.concatenate([prompt, a]))[None]).logits[0, 0] for a in answers])
            for prompt, answers in examples
        ]
    )
    alone.sin().sum().backward()
    expected = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    for make, attention in ((pack, NAME), (pad, "eager")):
        model.zero_grad()
        model.set_attn_implementation(attention)
        found = answer_scores(model, make(examples, np.arange(len(examples)), 2, rewards=True))
        found.sin().sum().backward()
        torch.testing.assert_close(found, alone.detach(), rtol=1e-5, atol=1e-5)
        largest = max(float(gradient.abs().max()) for gradient in expected.values())
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[key], rtol=0, atol=1e-5 * largest, msg=key)


# --- against TRL ------------------------------------------------------------------------------------------------------


class IdsOnly(PreTrainedTokenizerBase):
    """What TRL gets for a tokenizer: ids need none."""

    pad_token, eos_token = "<pad>", "<eos>"
    pad_token_id, eos_token_id = 0, 1

    def get_vocab(self) -> dict[str, int]:
        return {"<pad>": 0, "<eos>": 1}


def stepped(
    folder: Path, loss: Loss, objective: str, table: pa.Table, model: Any, rewards: bool
) -> list[dict[str, float]]:
    """The log of two steps of ours on all rows at once, in several packed micro batches; the model is trained."""
    settings = TrainSettings(
        learning_rate=RATE,
        learning_rate_schedule="constant",
        warmup_ratio=0,
        precision="float32",
        global_batch_size=ROWS,
        optimizer=Optimizer(epsilon=EPSILON),
    )
    step = Train(
        name="train", iteration=1, objective=objective, loss=loss, data=Prepare(fn="rows"), start=ModelRef(),
        result=ModelRef(iteration=1), settings=settings,
    )  # fmt: skip
    layout = Layout(packed=True, rewards=rewards)
    model.set_attn_implementation(NAME)
    steps = Steps(
        TokenIds(table), lengths_of(table), order(ROWS, 2, ROWS, seed=0),
        ranks=1, rank=0, budget=200, layout=layout, collate=collator(layout, table.num_columns - 1),
    )  # fmt: skip
    assert len(steps[0].micro) > 1
    arguments = trainer_arguments(step, TrainingMeans(device="CPU", activation_checkpointing="None"), 2, folder)
    log: list[dict[str, float]] = []
    StepTrainer(model=model, args=arguments, steps=steps, objective=objective_of(loss), on_log=log.append).train()
    return log


def assert_trained_alike(ours: Any, log: list[dict[str, float]], trainer: Any) -> None:
    """The losses and the lengths of the gradients of both steps, and the weights in the end."""
    theirs = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["loss"] for row in log] == pytest.approx([row["loss"] for row in theirs], rel=1e-5)
    assert [row["gradient_norm"] for row in log] == pytest.approx([row["grad_norm"] for row in theirs], rel=1e-5)
    weights = dict(ours.named_parameters())
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(weights[name], parameter, rtol=0, atol=1e-5, msg=name)


def trl_arguments(kind: Any, folder: Path, **more: Any) -> Any:
    """Two steps on all rows at once, in two micro batches."""
    return kind(
        output_dir=str(folder), per_device_train_batch_size=ROWS // 2, gradient_accumulation_steps=2, num_train_epochs=2,
        learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0, adam_epsilon=EPSILON, use_cpu=True, bf16=False,
        gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True, max_length=None,
        logging_steps=1, **more,
    )  # fmt: skip


def test_sft_ends_in_the_weights_of_trls_sft_trainer(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    examples = packed_models.examples(1, ROWS)
    table = pa.table(
        {
            "prompt_ids": [prompt.tolist() for prompt, _ in examples],
            "target_ids": [answer.tolist() for _, (answer,) in examples],
        }
    ).cast(pa.schema([(name, pa.list_(pa.int32())) for name in Reads.of("sft").columns]))
    model = packed_models.model("llama")
    log = stepped(tmp_path, Loss(type="sft"), "sft", table, model, rewards=False)
    rows = [
        {"input_ids": [*prompt, *answer], "labels": [*[-100] * len(prompt), *answer]} for prompt, (answer,) in examples
    ]
    trainer = SFTTrainer(
        model=packed_models.model("llama"),
        args=trl_arguments(SFTConfig, tmp_path, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=Dataset.from_list(rows),
        processing_class=IdsOnly(),
    )
    trainer.train()
    assert_trained_alike(model, log, trainer)


def test_a_reward_model_ends_in_the_weights_of_trls_reward_trainer(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    examples = packed_models.examples(2, ROWS)
    columns = Reads.of("bradley-terry").columns
    values = [[prompt.tolist() for prompt, _ in examples]]
    values += [[answers[side].tolist() for _, answers in examples] for side in (0, 1)]
    table = pa.table(dict(zip(columns, values, strict=True))).cast(
        pa.schema([(name, pa.list_(pa.int32())) for name in columns])
    )
    model = reward_model("llama")
    log = stepped(tmp_path, Loss(type="bradley-terry"), "reward", table, model, rewards=True)
    rows = [
        {"chosen_ids": [*prompt, *chosen], "rejected_ids": [*prompt, *rejected]}
        for prompt, (chosen, rejected) in examples
    ]
    trainer = RewardTrainer(
        model=reward_model("llama"),
        args=trl_arguments(RewardConfig, tmp_path),
        train_dataset=Dataset.from_list([{k: [int(i) for i in v] for k, v in row.items()} for row in rows]),
        processing_class=IdsOnly(),
    )
    trainer.train()
    assert_trained_alike(model, log, trainer)


# --- whole trainings --------------------------------------------------------------------------------------------------


def trained(folder: Path, objective: str, loss: Loss, table: pa.Table, **settings: Any) -> tuple[Any, Path]:
    """The manifest, and the published model's folder."""
    values = {"global_batch_size": 16, "epochs": 3, "learning_rate": 2e-3, "warmup_ratio": 0.0} | settings
    plan, step = trainings.training(loss=loss, settings=values)
    reference = ModelRef() if loss.type == "selm" else None
    step = step.model_copy(update={"objective": objective, "reference": reference})
    context = trainings.context(plan.model_copy(update={"steps": (step,)}), folder, table)
    manifest = program.train(context, step)
    losses = read_parts(context.folder, manifest.tables["log"])["loss"].to_pylist()
    assert losses[-1] < losses[0]
    assert context.folder.local is not None
    return manifest, context.folder.local / "model"


@pytest.mark.heavy
@pytest.mark.parametrize("lora", [None, Lora(rank=8, alpha=16)], ids=["full", "LoRA"])
def test_a_reward_model_learns_and_its_folder_gives_the_reward_of_the_last_token(
    tmp_path: Path, lora: Lora | None
) -> None:
    pairs = trainings.pairs(64)
    manifest, folder = trained(tmp_path, "reward", Loss(type="bradley-terry"), pairs, lora=lora, epochs=4)
    assert 0 <= manifest.result["accuracy"] <= 1
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    row = pairs.slice(0, 1).to_pylist()[0]
    sequences = [row["prompt_ids"] + row[side] for side in ("chosen_ids", "rejected_ids")]
    longest = max(map(len, sequences))
    padded = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids in sequences])
    with torch.no_grad():
        together = model(padded, attention_mask=(padded != tokenizer.pad_token_id).long()).logits[:, 0]
        last = [model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1])[0] for ids in sequences]
    torch.testing.assert_close(together, torch.stack(last), rtol=1e-4, atol=1e-4)


@pytest.mark.heavy
def test_targets_are_learned_and_the_log_has_what_there_is(tmp_path: Path) -> None:
    pairs = trainings.pairs(64).rename_columns({"chosen_ids": "target_ids"})
    manifest, _ = trained(tmp_path, "sft", Loss(type="sft"), pairs)
    assert "accuracy" not in manifest.result


@pytest.mark.heavy
def test_selm_trains_with_kept_answers_of_some_rows(tmp_path: Path) -> None:
    pairs = trainings.pairs(32)
    kept = [ids if number % 2 else None for number, ids in enumerate(pairs["rejected_ids"].to_pylist())]
    table = pairs.append_column("kept_ids", pa.array(kept, pa.list_(pa.int32())))
    manifest, _ = trained(tmp_path, "preference", Loss(type="selm", beta=0.5, alpha=0.01), table, learning_rate=3e-4)
    assert "emptied" not in manifest.result
