"""What recipes do to the tiny model, and their controls: trained by the real step, measured as tiny_effects.py says."""

from __future__ import annotations

import json
from pathlib import Path

import few_shots
import improvers
import proposers
import pytest
import small_runs
from small_runs import SmallRun
from tiny_effects import Rows, accuracy, explored, log_probabilities, own_samples, played, rows_of, tables, trained
from trainings import MODEL

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


@pytest.fixture(scope="module", name="drafts")
def _drafts() -> list[str]:
    """What the model answers held-out prompts, before it is improved."""
    return own_samples([row["prompt"] for row in rows_of("heldout.jsonl")], 3)


def drafted(drafts: list[str]) -> float:
    """The share of drafts that are right."""
    rows = rows_of("heldout.jsonl")
    return sum(draft == row["reference"] for draft, row in zip(drafts, rows, strict=True)) / len(rows)


def test_an_improver_of_seeds_betters_drafts_and_the_model_and_one_of_own_answers_does_not(
    drafts: list[str], tmp_path: Path
) -> None:
    """SynPO: what the improver is taught is all that it can add."""
    rows = tables().demonstrations(seed=1, count=900)
    prompts, right = [row["prompt"] for row in rows], [row["response"] for row in rows]
    own, again = own_samples(prompts, 1), own_samples(prompts, 2)
    taught = improvers.where(lambda draft, target: draft != target, prompts, own, right)  # what a gap of scores leaves
    said = improvers.where(lambda _, target: target != "", prompts, own, again)
    model, control = improvers.improver(*taught, tmp_path / "right"), improvers.improver(*said, tmp_path / "own")
    asked = rows_of("heldout.jsonl")
    assert improvers.improved(model, asked, drafts) - drafted(drafts) > GAIN
    assert improvers.improved(control, asked, drafts) - drafted(drafts) < NONE
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


def test_who_answered_tells_which_answer_is_right_and_one_responder_thrice_tells_nothing(tmp_path: Path) -> None:
    """ALMoST: no answer is ever called right."""
    prompts = {"data": {"prompts": {"count": 750}}}
    same = {"auxiliaryModels": [{"name": name, "url": MODEL.as_uri()} for name in ("strong", "weak")]}
    right = small_runs.ran(small_runs.plan_of("almost-tiny.yaml", prompts), tmp_path / "right")
    control = small_runs.ran(small_runs.plan_of("almost-tiny.yaml", prompts | same), tmp_path / "same")
    assert best_over_any(right) > GAIN
    assert best_over_any(control) < NONE
    assert accuracy(right.model("i1-train")) - accuracy(MODEL) > GAIN
    assert accuracy(control.model("i1-train")) - accuracy(MODEL) < NONE


def best_over_any(run: SmallRun) -> float:
    """How much more often the best of several answers by the reward model is right than any one of them."""
    right = {row["prompt"]: row["response"] for row in rows_of("demonstrations.jsonl")}
    best = [row["chosen"] == right[row["prompt"]] for row in run.rows("i1-score", "pairs")]
    any_one = [text == right[row["prompt"]] for row in run.rows("i1-generate", "pool") for text in row["candidates"]]
    return sum(best) / len(best) - sum(any_one) / len(any_one)


def test_preferences_teach_to_improve_answers_and_exchanged_ones_do_not(drafts: list[str], tmp_path: Path) -> None:
    """PIT, one round: what its optimiser adds to the improver as it was taught is little here, and it must lose nothing."""
    rows = tables().preferences(seed=1, count=1200)
    right = improving(rows, tmp_path / "right")
    control = improving(tables().shuffled(rows, 1), tmp_path / "exchanged")
    assert all_orders_right(right) > 0.65
    assert all_orders_right(control) < 0.45
    taught, after = (gain_of(right, step, drafts) for step in ("i1-train-improver", "i1-train"))
    assert taught > GAIN
    assert after > taught - NONE
    assert max(gain_of(control, step, drafts) for step in ("i1-train-improver", "i1-train")) < NONE


def improving(preferences: Rows, folder: Path) -> SmallRun:
    """A round of PIT on these preferences."""
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in preferences))
    data = {"preferences": {"url": (folder / "rows.jsonl").as_uri()}}
    return small_runs.ran(small_runs.plan_of("pit-tiny.yaml", {"iterations": 1, "data": data}), folder / "run")


def all_orders_right(run: SmallRun) -> float:
    """The share of pairs that the gap model has not seen whose five orders it has right (Eq. 2)."""
    pairs = run.rows("i1-generate", "orders")
    right = [
        pair["gap_wl"] > max(pair["gap_ww"], pair["gap_ll"]) and min(pair["gap_ww"], pair["gap_ll"]) > pair["gap_lw"]
        for pair in pairs
    ]
    return sum(right) / len(right)


def gain_of(run: SmallRun, step: str, drafts: list[str]) -> float:
    """How much more often an improver is right than the drafts."""
    template = run.method.roles["improve"].template
    return improvers.improved(run.model(step), rows_of("heldout.jsonl"), drafts, template) - drafted(drafts)


def test_a_proposer_of_failures_finds_more_of_them_and_what_is_found_teaches_the_target(tmp_path: Path) -> None:
    """ReverseGen; its controls: failed and handled exchanged at random, and the target for its own teacher."""
    run = proposers.right(tmp_path / "right")
    first, second = proposers.failing(run, 1), proposers.failing(run, 2)
    assert proposers.valid(run, 2) > 0.8
    assert second - first > 0.08
    assert proposers.failing(proposers.exchanged(run, tmp_path / "exchanged"), 2) - first < 0.08
    assert accuracy(run.model("i2-harden")) - accuracy(MODEL) > GAIN
    own = proposers.taught_by_itself(run, tmp_path / "own")
    assert accuracy(own.model("i1-harden")) - accuracy(MODEL) < NONE
