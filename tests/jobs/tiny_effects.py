"""Trainings of the examples' recipes on the tiny model, and what came of them, without a sampling error.

The accuracy at temperature 1 that is expected of held-out prompts is the mean probability of the right answer with its end.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch
import trainings
import yaml
from tiny_run import EXAMPLES, MOUNTS
from trainings import MODEL, TINY

from selfalign_api.load import parse
from selfalign_api.plan import EngineSettings, FlowJob, Judge, Prepare
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.accept.resolve import resolve
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine_setup import EngineSpec
from selfalign_jobs.generate.loop import FlowLoop, JobSetup, Task
from selfalign_jobs.generate.pair_ranker import ranker_of
from selfalign_jobs.generate.ranker_engine import RankerEngine
from selfalign_jobs.generate.score_render import PairRenderer
from selfalign_jobs.recipes import selm
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.train.written import PAIR, written

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


def trained(
    example: str,
    kind: str,
    rows: Rows,
    folder: Path,
    prepared: pa.Table | None = None,
    loss: dict[str, Any] | None = None,
) -> Path:
    """The model that an example's training makes of these rows in the place of its own; its figures lie in its manifest.

    `prepared` is what a generation would have made of the rows; `loss` takes the place of the example's.
    """
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = yaml.safe_load((EXAMPLES / example).read_text())
    document["spec"]["data"][kind]["url"] = (folder / "rows.jsonl").as_uri()
    document["spec"]["training"]["learningRate"] = float(document["spec"]["training"]["learningRate"])
    document["spec"]["training"]["loss"] = loss or document["spec"]["training"]["loss"]
    plan = resolve(parse(SelfAlignmentRun, document, ""), "CPU", MOUNTS, EXAMPLES).plan
    return trainings.trained(plan, "i1-train", folder, prepared)


@cache
def rows_of(table: str) -> Rows:
    """The rows of a table of the examples'."""
    return [json.loads(line) for line in (TINY / table).read_text().splitlines()]


@cache
def accuracy(model: Path) -> float:
    """The accuracy at temperature 1 that is expected of the held-out prompts."""
    chat, rows = ModelChat.of(MODEL, None), rows_of("heldout.jsonl")
    sums = log_probabilities(model, [chat.given(row["prompt"], row["reference"]) for row in rows])
    return sum(map(math.exp, sums)) / len(sums)


def log_probabilities(model: Path, answered: list[tuple[list[int], list[int]]]) -> list[float]:
    """The log-probability of each answer after its prompt, of (prompt, answer) as ids."""
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    longest = max(len(prompt) + len(answer) for prompt, answer in answered)
    ids = torch.tensor(
        [[*prompt, *answer, *[0] * (longest - len(prompt) - len(answer))] for prompt, answer in answered]
    )
    with torch.no_grad():  # what is padded at the end is seen by nothing before it
        logs = torch.log_softmax(policy(ids).logits[:, :-1], -1).gather(2, ids[:, 1:, None])[..., 0]
    return [
        float(log[len(prompt) - 1 : len(prompt) + len(answer) - 1].sum())
        for log, (prompt, answer) in zip(logs, answered, strict=True)
    ]


def own_samples(prompts: list[str], seed: int | None) -> list[str]:
    """An answer of the tiny model's to each prompt, at temperature 1; without a seed the likeliest one."""
    return samples(MODEL, prompts, seed)


def samples(model: Path, prompts: list[str], seed: int | None, temperature: float = 1.0) -> list[str]:
    """An answer of a model's to each prompt; without a seed the likeliest one."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed or 0)
    sampling = {"do_sample": True, "top_k": 0, "temperature": temperature} if seed is not None else {"do_sample": False}
    chat, policy = ModelChat.of(MODEL, None), AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    asked = [chat.encode(chat.text(prompt)) for prompt in prompts]
    texts = [""] * len(prompts)
    for length in sorted({len(ids) for ids in asked}):  # prompts of one length need no padding
        places = [place for place, ids in enumerate(asked) if len(ids) == length]
        ids = torch.tensor([asked[place] for place in places])
        whole = policy.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, **sampling)
        for place, answer in zip(places, whole[:, length:].tolist(), strict=True):
            texts[place] = chat.decode(tuple(answer))
    return texts


def explored(preferences: Rows, new: list[str], method: str = "score") -> pa.Table:
    """The pairs that SELM makes of preferences and new answers, ranked by the tiny ranker, or by `method`."""
    chat, flow = ModelChat.of(MODEL, None), recipe("selm").flows["rank-three"]
    rows = [
        three(chat, row["prompt"], dict(zip(selm.THREE, (answer, row["chosen"], row["rejected"]), strict=True)))
        for row, answer in zip(preferences, new, strict=True)
    ]
    scorer = "PairRanker" if method == "score" else None
    judge = Judge.model_validate({"method": method, "verdicts": ("a", "b"), "scorer": scorer})
    job = FlowJob(
        flow="rank-three", rows=Prepare(fn="as-made"), out="pairs", judge=judge, options={"identical": "Drop"}
    )
    folder = TINY / "ranker"
    engine = RankerEngine(EngineSpec(EngineSettings(), GenerationMeans(device="CPU")), folder)
    setup = JobSetup(job, flow.run, PairRenderer(ranker_of(folder, "ranker")[1]), run_seed=0)
    loop = FlowLoop(engine, {job.out: setup}, max_open=256)
    loop.add([Task(job.out, number, f"r{number}", 0, row) for number, row in enumerate(rows)])
    records = []
    while loop.unfinished:
        loop.advance()
        records += loop.take_finished()[job.out]
    made = [
        row
        for record in sorted(records, key=lambda each: each.source)
        if record.status == "rows"
        for row in record.rows
    ]
    table = pa.Table.from_pylist([{name: row.get(name) for name in flow.schema.names} for row in made], flow.schema)
    return with_counts(table, {})


def three(chat: ModelChat, prompt: str, answers: dict[str, str]) -> dict[str, Any]:
    """A prompt with its three answers, as a flow hands them to a ranker."""
    ids = {name: chat.given(prompt, answer) for name, answer in answers.items()}
    return (
        {"history": None, "prompt": prompt, "prompt_ids": ids["new"][0], "answer_seed": 0}
        | answers
        | {f"{name}_ids": answer for name, (_, answer) in ids.items()}
        | {f"{name}_finish": "stop" for name in answers}
    )


def played(demonstrations: Rows, own: list[str]) -> pa.Table:
    """The pairs that SPIN makes of demonstrations and own answers."""
    rows: list[dict[str, Any]] = [
        {"history": None, "prompt": row["prompt"], "chosen": row["response"], "rejected": answer}
        for row, answer in zip(demonstrations, own, strict=True)
        if row["response"] != answer
    ]
    schema = pa.schema([(name, pa.string()) for name in ("history", "prompt", "chosen", "rejected")])
    return with_counts(written(pa.Table.from_pylist(rows, schema), ModelChat.of(MODEL, None), PAIR), {})
