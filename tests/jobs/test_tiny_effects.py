"""What recipes do to the tiny model, and their controls: trained by the real step, measured as tiny_effects.py says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_effects import Rows, accuracy, own_samples, played, tables, trained
from trainings import MODEL

pytestmark = pytest.mark.heavy
GAIN, NONE = 0.10, 0.05


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
