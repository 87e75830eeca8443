"""Training: what a run file promises of it, and words about how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cases.case import Case, Room, with_spec


def _finds(name: str, words: str) -> Callable[[Room], Iterator[str]]:
    """That a file of the run's folder says so."""

    def look(room: Room) -> Iterator[str]:
        (file,) = room.out.glob(f"*/*/{name}")
        if words not in file.read_text():
            yield f"{name} does not say {words!r}"

    return look


def _few(room: Room) -> Path:
    asked = room.lines("asked.jsonl", [{"prompt": f"What is {n}?"} for n in range(20)])
    return room.run({"evaluation": {"when": "Last", "prompts": {"url": asked}}})


RUN = "selfalign run {run} --out {out}"

CASES = [
    Case("the base of all cases", with_spec({}), says=("would run here in 2 steps",), never=("second look",)),
    Case(
        "a batch larger than the data",
        with_spec({"training.globalBatchSize": 512}),
        says=("globalBatchSize 512 is more than the 48 pairs there are", "one optimiser step"),
    ),
    Case(
        "a batch of all the data",
        with_spec({"training.globalBatchSize": 48}),
        never=("second look",),
    ),
    Case(
        "steps in the plan",
        with_spec({"training.globalBatchSize": 10, "training.epochs": 2}),
        command="COLUMNS=200 selfalign plan {run}",
        says=("batch 10, 2 epochs: at most 10 steps",),
    ),
    Case(
        "a learning rate as pretraining has them",
        with_spec({"training.learningRate": 0.05}),
        says=("learningRate 0.05 is above 0.01",),
    ),
    Case("a learning rate of a tiny model", with_spec({"training.learningRate": 1e-3}), never=("second look",)),
    Case("few held-out prompts", _few, says=("The evaluation has 20 prompts", "±0.22")),
    Case(
        "collapse",
        with_spec({"training.learningRate": 1e6}),
        code=64,
        command=RUN,
        says=("spec.training.learningRate", "the training collapsed: from step 2 on the gradient is 0", "lower"),
        engine=True,
    ),
    Case(
        "a batch larger than the data, run",
        with_spec({"training.globalBatchSize": 512}),
        command=RUN,
        says=("globalBatchSize 512 is more than the",),
        holds=_finds("report.html", "globalBatchSize 512 is more than the"),
        engine=True,
    ),
]
