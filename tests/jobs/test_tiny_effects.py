"""What recipes do to the tiny model, and their controls: trained by the real step, measured without a sampling error.

The accuracy at temperature 1 that is expected of held-out prompts is the mean probability of the right answer with its end.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from tiny_run import EXAMPLES, MOUNTS
from trainings import MODEL, TINY

from selfalign_api.load import parse
from selfalign_api.plan import Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.program import train
from selfalign_jobs.train.written import written

pytestmark = pytest.mark.heavy
GAIN, NONE = 0.10, 0.05
Rows = list[dict[str, str]]


@cache
def tables() -> ModuleType:
    """The program that wrote the examples' tables."""
    sys.path.insert(0, str(TINY / "build"))
    try:
        spec = importlib.util.spec_from_file_location("tiny_tables", TINY / "build" / "tables.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TINY / "build"))
    return module


def trained(example: str, kind: str, rows: Rows, folder: Path, prepared: pa.Table | None = None) -> Path:
    """The model that an example's training makes of these rows in the place of its own; its figures lie in its manifest."""
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = yaml.safe_load((EXAMPLES / example).read_text())
    document["spec"]["data"][kind]["url"] = (folder / "rows.jsonl").as_uri()
    document["spec"]["training"]["learningRate"] = float(document["spec"]["training"]["learningRate"])
    plan = resolve(parse(SelfAlignmentRun, document, ""), "CPU", MOUNTS, EXAMPLES).plan
    engines = GenerationMeans(device="CPU")
    means = Means(
        generation=engines, training=TrainingMeans(device="CPU", activation_checkpointing="None"), evaluation=engines
    )
    config = StepConfig(
        plan=plan, step="i1-train", attempt=1, storage=folder.resolve().as_uri(), mounts=MOUNTS, means=means
    )
    context = StepContext.of(config, Progress(config.step), stop=threading.Event())
    if prepared is not None:
        context.folder.write_table("prepared/pairs.parquet", prepared)
    step = plan.step("i1-train")
    assert isinstance(step, Train)
    manifest = train(context, step)
    assert context.folder.local is not None and manifest.model is not None
    return context.folder.local / manifest.model


@cache
def accuracy(model: Path) -> float:
    """The accuracy at temperature 1 that is expected of the held-out prompts."""
    from transformers import AutoModelForCausalLM

    chat, policy = ModelChat.of(MODEL, None), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = []
    for line in (TINY / "heldout.jsonl").read_text().splitlines():
        row = json.loads(line)
        prompt, answer = chat.given(row["prompt"], row["reference"])
        with torch.no_grad():
            logits = policy(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None])
        found.append(float(chosen.sum().exp()))
    return sum(found) / len(found)


def test_right_answers_before_habits_are_learned_and_shuffled_labels_are_not(tmp_path: Path) -> None:
    rows = tables().preferences(seed=1, count=640)
    same = rows[0] | {"rejected": rows[0]["chosen"]}
    model = trained("pairs-tiny.yaml", "preferences", [same, *rows[1:]], tmp_path / "right")
    control = trained("pairs-tiny.yaml", "preferences", tables().shuffled(rows, 1), tmp_path / "shuffled")
    assert accuracy(model) - accuracy(MODEL) > GAIN
    assert accuracy(control) - accuracy(MODEL) < NONE
    result = json.loads((model.parent / "manifest.json").read_text())["result"]
    assert (result["pairs"], result["identical"]) == (639, 1)
    assert result["chosenLogProbability"]["after"] > result["chosenLogProbability"]["before"]


def own_samples(prompts: list[str], seed: int) -> list[str]:
    """An answer of the tiny model's to each prompt, at temperature 1."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    chat, policy = ModelChat.of(MODEL, None), AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    texts = []
    for prompt in prompts:
        ids = torch.tensor([chat.encode(chat.text(prompt))])
        whole = policy.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=16)
        texts.append(chat.decode(tuple(whole[0, ids.shape[1] :].tolist())))
    return texts


def played(demonstrations: Rows, own: list[str]) -> pa.Table:
    """The pairs that SPIN makes of demonstrations and own answers."""
    rows: list[dict[str, Any]] = [
        {"history": None, "prompt": row["prompt"], "chosen": row["response"], "rejected": answer}
        for row, answer in zip(demonstrations, own, strict=True)
        if row["response"] != answer
    ]
    schema = pa.schema([(name, pa.string()) for name in ("history", "prompt", "chosen", "rejected")])
    return with_counts(written(pa.Table.from_pylist(rows, schema), ModelChat.of(MODEL, None)), {})


def test_self_play_against_right_answers_gains_and_against_a_second_own_sample_does_not(tmp_path: Path) -> None:
    rows = tables().demonstrations(seed=1, count=900)
    prompts = [row["prompt"] for row in rows]
    own, again = own_samples(prompts, 1), own_samples(prompts, 2)
    right = accuracy(trained("spin-tiny.yaml", "demonstrations", rows, tmp_path / "right", played(rows, own)))
    same: Rows = [
        {"prompt": prompt, "response": answer} for prompt, answer in zip(prompts, again, strict=True) if answer
    ]
    exchanged = played([row | {"response": answer} for row, answer in zip(rows, again, strict=True)], own)
    control = accuracy(trained("spin-tiny.yaml", "demonstrations", same, tmp_path / "own", exchanged))
    assert right - accuracy(MODEL) > GAIN
    assert control - accuracy(MODEL) < NONE
