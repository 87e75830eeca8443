"""What recipes do to the tiny model, and their controls: trained by the real step, measured as tiny_effects.py says."""

from __future__ import annotations

import json
from pathlib import Path

import few_shots
import improvers
import pytest
from tiny_effects import Rows, accuracy, explored, log_probabilities, own_samples, played, tables, trained
from trainings import MODEL, TINY

pytestmark = pytest.mark.heavy
# Of examples/selm-tiny.yaml the β; an α at which one iteration shows what it does: near it the term outweighs the pairs.
OPTIMISTIC, INDIFFERENT, DPO = (
    {"type": "selm", "beta": 0.1, "alpha": 0.5},
    {"type": "selm", "beta": 0.1, "alpha": 0},
    {"type": "dpo", "beta": 0.1},
)
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
    taught = improvers.where(lambda draft, target: draft != target, prompts, own, right)  # what a gap of scores leaves
    said = improvers.where(lambda _, target: target != "", prompts, own, again)
    model, control = improvers.improver(*taught, tmp_path / "right"), improvers.improver(*said, tmp_path / "own")
    asked = [json.loads(line) for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    drafts = own_samples([row["prompt"] for row in asked], 3)
    drafted = sum(draft == row["reference"] for draft, row in zip(drafts, asked, strict=True)) / len(asked)
    assert improvers.improved(model, asked, drafts) - drafted > GAIN
    assert improvers.improved(control, asked, drafts) - drafted < NONE
    pairs = improvers.pairs(model, seed=4, count=900)
    assert accuracy(improvers.trained("i1-train", pairs, tmp_path / "policy")) - accuracy(MODEL) > GAIN


@pytest.fixture(scope="module", name="preferences")
def _preferences() -> Rows:
    rows: Rows = tables().mixed(seed=1, count=640)
    return rows


@pytest.fixture(scope="module", name="new")
def _new(preferences: Rows) -> list[str]:
    """What the model answers itself, greedily."""
    return own_samples([row["prompt"] for row in preferences], None)


def test_optimism_makes_own_answers_less_likely_and_without_it_selm_is_dpo_to_the_bit(
    preferences: Rows, new: list[str], tmp_path: Path
) -> None:
    pairs = explored(preferences, new)
    own = list(zip(pairs["prompt_ids"].to_pylist(), pairs["kept_ids"].to_pylist(), strict=True))
    models = {
        name: trained("selm-tiny.yaml", "preferences", preferences, tmp_path / name, table, loss)
        for name, table, loss in (
            ("optimistic", pairs, OPTIMISTIC),
            ("indifferent", pairs, INDIFFERENT),
            ("dpo", pairs.drop_columns(["kept_ids"]), DPO),
        )
    }
    mean = {name: sum(log_probabilities(model, own)) / len(own) for name, model in models.items()}
    assert mean["optimistic"] < mean["indifferent"] - 0.05
    weights = [(models[name] / "model.safetensors").read_bytes() for name in ("indifferent", "dpo")]
    assert weights[0] == weights[1]
    assert accuracy(models["indifferent"]) - accuracy(MODEL) > GAIN
    assert accuracy(models["optimistic"]) - accuracy(MODEL) > NONE
    result = json.loads((models["optimistic"].parent / "manifest.json").read_text())["result"]
    before = sum(log_probabilities(MODEL, own)) / len(own)
    assert result["keptLogProbability"]["before"] == pytest.approx(before, abs=1e-3)


def test_pairs_by_ranks_that_say_nothing_teach_nothing(preferences: Rows, new: list[str], tmp_path: Path) -> None:
    pairs = explored(preferences, new, "random")
    control = trained("selm-tiny.yaml", "preferences", preferences, tmp_path / "random", pairs, INDIFFERENT)
    assert accuracy(control) - accuracy(MODEL) < NONE


def test_a_taste_is_read_off_a_users_own_shots_and_not_off_anothers(tmp_path: Path) -> None:
    """FSPO: of users whom no training saw; the control is the same model, shown the pairs of a user who is drawn."""
    plan = few_shots.plan_of(few_shots.users().users(seed=1, count=120), tmp_path)
    models, windows = few_shots.trained(plan, tmp_path), few_shots.asked(plan)
    template = plan.steps[0].data.options["turn"]  # type: ignore[union-attr]
    fitted, preferred = models["i1-train-sft"], models["i1-train"]
    assert few_shots.in_taste(fitted, windows, template) > 0.8
    assert few_shots.in_taste(preferred, windows, template) > 0.85
    for model, shots in ((MODEL, "shots"), (preferred, "other_shots")):
        assert abs(few_shots.in_taste(model, windows, template, shots) - 0.5) < 0.13
