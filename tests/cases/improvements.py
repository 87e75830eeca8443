"""Preferences as people give them to PIT: dialogues and rows that are parted into folds, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cases.case import Case, Room
from cases.table_files import lines

WORDS = ("dog", "pear", "axe", "lime", "cat", "fig", "saw", "plum", "hen", "rake", "kiwi", "cow")
PAIRS = [{"prompt": f"Count these words: {word} cat", "chosen": "2", "rejected": "3"} for word in WORDS]
TOLD = "\n\nHuman: count {0}\n\nAssistant: 1\n\nHuman: and {0} cat?\n\nAssistant: {1}"  # as hh-rlhf has it
DIALOGUES = [{"chosen": TOLD.format(word, "2"), "rejected": TOLD.format(word, "3")} for word in WORDS]


def with_pairs(rows: Iterable[object] = PAIRS, **spec: Any) -> Callable[[Room], Path]:
    """A run on these preferences."""

    def write(room: Room) -> Path:
        role = {"maxTokens": 16}
        return room.run(
            {
                "recipe": "pit",
                "data": {"preferences": {"url": room.data("preferences.jsonl", lines(rows))}},
                "generation": {
                    "precision": "float32",
                    "roles": [{"name": name} | role for name in ("respond", "improve")],
                },
                "training": None,
                "evaluation": {"when": "Never"},
            }
            | spec
        )

    return write


def refused(name: str, *says: str, **given: Any) -> Case:
    """A run that is refused in these words."""
    return Case(name, with_pairs(**given), code=64, says=says)


CASES = [
    Case("pairs of a prompt and two answers", with_pairs(), reads={"preferences": {"chosen": ["2"] * len(WORDS)}}),
    Case(
        "whole dialogues, parted at their last answer",
        with_pairs(DIALOGUES),
        reads={"preferences": {"prompt": [f"and {word} cat?" for word in WORDS], "chosen": ["2"] * len(WORDS)}},
    ),
    refused("one pair, which leaves folds without any", "has no pair for", "give more rows", rows=PAIRS[:1]),
    refused(
        "one prompt again and again, which is in one fold",
        "has no pair for",
        "folds by their prompts",
        rows=[{"prompt": "q", "chosen": str(n), "rejected": "no"} for n in range(9)],
    ),
    refused(
        "answers that are all equal",
        "chosen equals rejected in all 12 rows",
        rows=[row | {"rejected": row["chosen"]} for row in PAIRS],
    ),
    refused(
        "fewer rows than are set apart for evaluation",
        "501 rows are needed and there are 12",
        evaluation={"checks": [{"name": "win", "type": "SelfWinRate"}]},
    ),
    refused("pairs without the worse answer", "rejected", rows=[{"prompt": "q", "chosen": "a"}]),
    refused("demonstrations", "data.demonstrations is read by", data={"demonstrations": {"url": "./d.jsonl"}}),
    refused("no preferences", "recipe pit needs data.preferences.url", data=None),
    refused(
        "a stage by the model's name",
        "recipe pit has the further trainings draftModel, improver, rewardModel",
        training={"stages": [{"name": "gapModel", "epochs": 1}]},
    ),
    refused(
        "a stage of a model that is not trained",
        "with pit.draftModel: Initial the model as given drafts",
        training={"stages": [{"name": "draftModel", "epochs": 1}]},
        pit={"draftModel": "Initial"},
    ),
    refused(
        "the rate of an optimiser that the paper does not name",
        "pit.optimizer",
        "SampleRankDPO",
        pit={"optimizer": "PPO"},
    ),
    refused("one candidate, which has no other beside it", "pit.candidates", pit={"candidates": 1}),
    refused("no pass", "pit.improvePasses", pit={"improvePasses": 0}),
    refused(
        "an improver that is not shown the draft",
        "roles[improve].template",
        "leaves out draft",
        **{"generation.roles[improve].template": "Better: {{ prompt }}"},
    ),
    refused(
        "an improver without chance",
        "equal at temperature 0",
        **{"generation.roles[improve].temperature": 0},
    ),
    refused(
        "an improver that keeps its reasoning",
        "remove reasoning: Keep",
        **{"generation.roles[improve].reasoning": "Keep"},
    ),
    refused("options of another recipe", "spec.selm belongs to recipe selm", selm={"firstIteration": "Online"}),
    refused(
        "a loss of another recipe",
        "loss selm needs the model's own answers",
        training={"loss": {"type": "selm"}},
    ),
    refused(
        "an adapter that is to be kept",
        "remove adapter: what is published is whole",
        training={"adapter": "lora"},
        output={"url": "./out", "adapter": "Keep"},
    ),
]
