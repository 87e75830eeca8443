"""Train steps for tests: pairs in the tiny model's language, a plan around them, and a context to run them in."""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from tiny_run import MOUNTS

from selfalign_api.plan import ModelRef, Plan, Prepare, Train
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_api.sources import ModelSource
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.program import train

TINY = Path(__file__).parents[2] / "examples" / "tiny-model"
MODEL = TINY / "model"


def language() -> ModuleType:
    """The tiny model's language, from its build."""
    spec = importlib.util.spec_from_file_location("tiny_language", TINY / "build" / "language.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pairs(count: int, seed: int = 0) -> pa.Table:
    """Pairs as generation writes them: right answers chosen, sloppy habits rejected, with the model's token ids."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    speech, rng = language(), random.Random(seed)
    rows = []
    for number in range(count):
        item = speech.draw_training_item(rng, speech.TASKS[number % len(speech.TASKS)])
        right, habit, _ = item.answers
        chat = [{"role": "user", "content": rng.choice(item.prompts)}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        rows.append(
            {
                "record": f"r{number}",
                "prompt": chat[0]["content"],
                "chosen": right,
                "rejected": habit,
                "prompt_ids": tokenizer.encode(prompt, add_special_tokens=False),
                "chosen_ids": [*tokenizer.encode(right, add_special_tokens=False), tokenizer.eos_token_id],
                "rejected_ids": [*tokenizer.encode(habit, add_special_tokens=False), tokenizer.eos_token_id],
            }
        )
    ids = pa.list_(pa.int32())
    text = [(name, pa.string()) for name in ("record", "prompt", "chosen", "rejected")]
    return pa.Table.from_pylist(
        rows, pa.schema([*text, ("prompt_ids", ids), ("chosen_ids", ids), ("rejected_ids", ids)])
    )


def training(
    *,
    loss: Loss | None = None,
    settings: dict[str, Any] | None = None,
    model: Path = MODEL,
) -> tuple[Plan, Train]:
    """A plan of one train step on the tiny model, in settings that learn."""
    loss = loss or Loss(type="simpo", beta=2, gamma=1)
    values = {
        "learning_rate": 6e-4,
        "learning_rate_schedule": "linear",
        "global_batch_size": 32,
        "max_length_tokens": 256,
        "max_prompt_tokens": 192,
        "precision": "float32",
    }
    step = Train(
        name="iter-1-train",
        iteration=1,
        loss=loss,
        data=Prepare(fn="pairs"),
        start=ModelRef(),
        reference=ModelRef() if loss.type in ("dpo", "ipo", "hinge") else None,
        result=ModelRef(iteration=1),
        settings=TrainSettings(**(values | (settings or {}))),
    )
    source = ModelSource(url=model.resolve().as_uri(), digest="sha256:tiny")
    plan = Plan(
        version="0.1.0",
        name="test",
        recipe="sao",
        seed=0,
        digest="sha256:method",
        models={"policy": source},
        sources={},
        steps=(step,),
    )
    return plan, step


def context(
    plan: Plan, run: Path, table: pa.Table | None, *, step: str | None = None, attempt: int = 1, **means: Any
) -> StepContext:
    """A context whose step, the plan's first, finds `table` as its prepared pairs."""
    values = {"device": "CPU", "activation_checkpointing": "None"} | means
    config = StepConfig(
        plan=plan,
        step=step or plan.steps[0].name,
        attempt=attempt,
        storage=run.resolve().as_uri(),
        mounts=MOUNTS,
        means=Means(
            generation=GenerationMeans(device="CPU"),
            training=TrainingMeans(**values),
            evaluation=GenerationMeans(device="CPU"),
        ),
    )
    made = StepContext.of(config, Progress(config.step), stop=threading.Event())
    if table is not None and not made.folder.exists("prepared/pairs.parquet"):
        made.folder.write_table("prepared/pairs.parquet", table)
    return made


def trained(plan: Plan, name: str, folder: Path, table: pa.Table | None = None) -> Path:
    """The model that a training of a plan makes, of `table` in the place of what it would prepare."""
    step, made = plan.step(name), context(plan, folder, table, step=name)
    assert isinstance(step, Train)
    manifest = train(made, step)
    assert made.folder.local is not None and manifest.model is not None
    return made.folder.local / manifest.model
