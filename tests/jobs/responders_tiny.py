"""ALMoST on the tiny model without an engine: responders are sampled by transformers, their order labels comparisons."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from tiny_effects import samples, tables
from tiny_run import EXAMPLES, MOUNTS
from trainings import MODEL, TINY

from selfalign_api.load import load_run
from selfalign_api.plan import Train
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.score_render import AsTrained
from selfalign_jobs.recipes.provenance import comparisons
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.program import train

sys.path.insert(0, str(TINY / "build"))

import language

RESPONDERS = (TINY / "strong", MODEL, TINY / "weak")
POOL = 4
Reward = Callable[[str, str], float]


def requests(count: int) -> list[dict[str, str]]:
    """Requests with their right answers, none held out."""
    found: list[dict[str, str]] = tables().demonstrations(seed=1, count=count)
    return found


def compared(prompts: list[str]) -> pa.Table:
    """What each responder answers, as the recipe compares it."""
    answered = [samples(model, prompts, seed) for seed, model in enumerate(RESPONDERS, 1)]
    made = [
        pa.table({"prompt": prompts, "response": answers, "finish": ["stop"] * len(prompts)}) for answers in answered
    ]
    options = {
        "held_out": False, "seed": 0, "pairs": "All", "identical": "Drop", "truncated": "Keep", "doubtful": "Keep",
    }  # fmt: skip
    return comparisons(tuple(made), options)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The same comparisons, chosen and rejected exchanged by a coin: who answered says nothing."""
    rng, rows = random.Random(seed), table.to_pylist()
    for row in rows:
        if rng.random() < 0.5:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    return with_counts(pa.Table.from_pylist(rows, table.schema), {})


def trained(step_name: str, table: pa.Table, folder: Path) -> Path:
    """The model that a training of the example makes of this table, as the recipe prepares it."""
    plan = resolve(load_run(EXAMPLES / "almost-tiny.yaml"), "CPU", MOUNTS, EXAMPLES).plan
    step = plan.step(step_name)
    assert isinstance(step, Train)
    folder.mkdir(parents=True)
    engines, ranks = GenerationMeans(device="CPU"), TrainingMeans(device="CPU", activation_checkpointing="None")
    means = Means(generation=engines, training=ranks, evaluation=engines)
    storage = folder.resolve().as_uri()
    config = StepConfig(plan=plan, step=step_name, attempt=1, storage=storage, mounts=MOUNTS, means=means)
    context = StepContext.of(config, Progress(step_name), stop=threading.Event())
    context.folder.write_table("prepared/pairs.parquet", with_ids(table))
    manifest = train(context, step)
    assert context.folder.local is not None and manifest.model is not None
    return context.folder.local / manifest.model


def with_ids(table: pa.Table) -> pa.Table:
    """As the train step tokenises it."""
    from selfalign_jobs.train.written import PAIR, TARGET, written

    return written(table, ModelChat.of(MODEL, None), PAIR if "chosen" in table.column_names else TARGET)


def reward_of(model: Path) -> Reward:
    """What a reward model that was trained so says of an answer."""
    import torch
    from transformers import AutoModelForSequenceClassification

    policy = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    reading = AsTrained(ModelChat.of(MODEL, None))

    def reward(prompt: str, answer: str) -> float:
        with torch.inference_mode():
            return float(policy(torch.tensor([reading.ids(prompt, answer)])).logits[0, 0])

    return reward


def accuracy(reward: Reward) -> float:
    """The share of held-out right answers that it scores above a habit: it was never told which is right."""
    gaps = []
    for item in language.heldout_items(25):
        for prompt in item.prompts:
            right, *habits = (reward(prompt, answer) for answer in item.answers)
            gaps += [right > habit for habit in habits]
    return sum(gaps) / len(gaps)


def pool(prompts: list[str]) -> list[list[str]]:
    """Several answers of the tiny model's to each prompt."""
    drawn = [samples(MODEL, prompts, 10 + number) for number in range(POOL)]
    return [list(answers) for answers in zip(*drawn, strict=True)]


def best(reward: Reward, prompts: list[str], answers: list[list[str]]) -> list[str]:
    """The one of each prompt's that scores best."""
    return [max(given, key=lambda text: reward(prompt, text)) for prompt, given in zip(prompts, answers, strict=True)]


def right(said: list[str], references: list[str]) -> float:
    """The share that is right."""
    return sum(text == reference for text, reference in zip(said, references, strict=True)) / len(said)


def targets(prompts: list[str], answers: list[str]) -> pa.Table:
    """What the last training learns."""
    rows = [{"prompt": prompt, "target": text} for prompt, text in zip(prompts, answers, strict=True) if text]
    return with_counts(pa.Table.from_pylist(rows), {})
