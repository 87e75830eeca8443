"""What recipes do to the tiny model, and their controls: trained by the real step, measured as tiny_effects.py says."""

from __future__ import annotations

import json
from pathlib import Path

import improvers
import pytest
from tiny_effects import Rows, accuracy, own_samples, played, tables, trained
from trainings import MODEL, TINY

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


def test_an_improver_of_seeds_betters_drafts_and_the_model_and_one_of_own_answers_does_not(tmp_path: Path) -> None:
    """SynPO: what the improver is taught is all that it can add."""
    rows = tables().demonstrations(seed=1, count=900)
    prompts, right = [row["prompt"] for row in rows], [row["response"] for row in rows]
    own, again = own_samples(prompts, 1), own_samples(prompts, 2)
    worse = [number for number, answer in enumerate(own) if answer != right[number]]  # what a gap of scores leaves
    taught = ([each[number] for number in worse] for each in (prompts, own, right))
    said = [number for number, answer in enumerate(again) if answer]
    model = improvers.improver(*taught, tmp_path / "right")
    control = improvers.improver(
        *([each[number] for number in said] for each in (prompts, own, again)), tmp_path / "own"
    )
    asked = [json.loads(line) for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    drafts = own_samples([row["prompt"] for row in asked], 3)
    drafted = sum(draft == row["reference"] for draft, row in zip(drafts, asked, strict=True)) / len(asked)
    assert improvers.improved(model, asked, drafts) - drafted > GAIN
    assert improvers.improved(control, asked, drafts) - drafted < NONE
    pairs = improvers.pairs(model, seed=4, count=900)
    assert accuracy(improvers.trained("i1-train", pairs, tmp_path / "policy")) - accuracy(MODEL) > GAIN
