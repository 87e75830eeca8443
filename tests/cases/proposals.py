"""Runs of ReverseGen as people write them: helpers of the wrong kind, oracles without what they need, seeds that are too few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cases.case import TINY, Case, Room
from cases.table_files import lines

SEEDS = [{"prompt": f"Count these words: {word} cat"} for word in ("dog", "pear", "axe", "lime", "saw", "red")]
HELPERS = [
    {"name": "teacher", "url": (TINY / "strong").as_uri()},
    {"name": "verifier", "kind": "Classifier", "label": "valid", "url": (TINY / "verifier").as_uri()},
    {"name": "reward", "kind": "RewardModel", "url": (TINY / "reward-model").as_uri()},
]
OPTIONS: dict[str, Any] = {
    "proposerModelName": "initial",
    "teacherModelName": "teacher",
    "verifierModelName": "verifier",
    "oracle": {"type": "ExactMatch"},
    "proposalsPerIteration": 4,
}


def proposing(seeds: Iterable[object] = SEEDS, used: str = "teacher verifier", **spec: Any) -> Callable[[Room], Path]:
    """A run on these seeds, with those of the helpers that it uses; `options` are laid over the recipe's own."""

    def write(room: Room) -> Path:
        options: Mapping[str, Any] = spec.pop("options", {}) or {}
        return room.run(
            {
                "recipe": "reversegen",
                "auxiliaryModels": [helper for helper in HELPERS if helper["name"] in used.split()],
                "data": {"prompts": {"url": room.data("seeds.jsonl", lines(seeds))}},
                "generation": {
                    "precision": "float32",
                    "roles": [{"name": name, "maxTokens": 16} for name in ("propose", "respond", "teach")],
                },
                "iterations": 2,
                "judge": None,
                "training": None,
                "evaluation": {"when": "Never"},
                "reversegen": {name: value for name, value in (OPTIONS | dict(options)).items() if value is not None},
            }
            | spec
        )

    return write


def taken(name: str, **given: Any) -> Case:
    """A run that may start."""
    return Case(name, proposing(**given), says=("would run here",))


def refused(name: str, *says: str, **given: Any) -> Case:
    """A run that is refused in these words."""
    return Case(name, proposing(**given), code=64, says=says)


REWARDED = {"oracle": {"type": "Reward", "reward": {"modelName": "reward", "threshold": 0}}}
ENTROPY = {"oracle": {"type": "Entropy"}}

CASES = [
    taken("the teacher's answers say what failed"),
    taken("a reward model says what failed", used="teacher verifier reward", options=REWARDED),
    taken("answers that differ have failed", options=ENTROPY),
    taken("the model teaches itself", used="verifier reward", options=REWARDED | {"teacherModelName": "initial"}),
    taken("a model that writes verifies", used="teacher", options={"verifierModelName": "initial"}),
    taken("nobody verifies", used="teacher", options={"verifierModelName": None}),
    taken("the teacher proposes", options={"proposerModelName": "teacher"}),
    taken("seeds as a text, an instruction a line", seeds=SEEDS, **{"data.prompts.count": 6}),
    # --- models
    refused(
        "a proposer that writes nothing",
        "spec.reversegen.proposerModelName",
        "did you mean teacher?",
        "no model of kind Causal",
        options={"proposerModelName": "verifier"},
    ),
    refused("a teacher that nobody names", "did you mean teacher?", options={"teacherModelName": "strong"}),
    refused("a teacher that is the target", "initial is the target itself", options={"teacherModelName": "initial"}),
    refused(
        "a verifier that scores",
        "spec.reversegen.verifierModelName",
        "Causal or Classifier",
        used="teacher verifier reward",
        options={"verifierModelName": "reward"},
    ),
    refused(
        "a verifier whose label the model lacks",
        "spec.auxiliaryModels[verifier].label",
        "write one of: invalid, valid",
        auxiliaryModels=[HELPERS[0], HELPERS[1] | {"label": "good"}],
    ),
    refused(
        "a verifier that nobody asks",
        "spec.auxiliaryModels[verifier]",
        "nothing of this run uses it",
        options={"verifierModelName": None},
    ),
    refused(
        "a reward model as a classifier",
        "spec.reversegen.oracle.classifier.modelName",
        "no model of kind Classifier",
        used="teacher verifier reward",
        options={"oracle": {"type": "Classifier", "classifier": {"modelName": "reward"}}},
    ),
    refused(
        "verdicts of a verifier that has labels",
        "verdicts are those of a verifier that writes",
        options={"verifierVerdicts": ["A", "B"]},
    ),
    # --- oracles
    refused("no oracle", "spec.reversegen.oracle: is missing", options={"oracle": None}),
    refused("an oracle of no type", "spec.reversegen.oracle.type: is missing", options={"oracle": {}}),
    refused(
        "a reward oracle without a model",
        "reward and type: Reward belong together",
        options={"oracle": {"type": "Reward"}},
    ),
    refused(
        "a reward oracle without a threshold",
        "spec.reversegen.oracle.reward.threshold: is missing",
        used="teacher verifier reward",
        options={"oracle": {"type": "Reward", "reward": {"modelName": "reward"}}},
    ),
    refused(
        "a threshold of another oracle",
        "entropy and type: Entropy belong together",
        options={"oracle": {"type": "ExactMatch", "entropy": {"minEntropy": 1}}},
    ),
    refused(
        "one answer and its entropy", "the entropy of one answer is zero", options=ENTROPY | {"answersPerProposal": 1}
    ),
    refused("several answers to compare with one", "the other oracles look at one", options={"answersPerProposal": 3}),
    refused(
        "greedy answers and their entropy",
        "answers at temperature 0 are all the same",
        options=ENTROPY,
        **{"generation.roles": [{"name": "respond", "temperature": 0, "maxTokens": 16}]},
    ),
    # --- seeds and contexts
    refused("seeds without prompts", "has no column prompt", seeds=[{"text": "a"}] * 6),
    refused("one seed over and over", "leaves 1 seeds of 6 rows drawn (5 come twice", seeds=SEEDS[:1] * 6),
    refused("three seeds for a context of three", "leaves 3 seeds of 3 rows drawn", seeds=SEEDS[:3]),
    refused(
        "more contexts than there are",
        "6 seeds, of which 20 different contexts of 3 can be made, and 22 are needed",
        options={"proposalsPerIteration": 11},
    ),
    refused(
        "fewer seeds than are set apart for evaluation",
        "501 rows are needed and there are 6",
        evaluation={"checks": [{"name": "win", "type": "SelfWinRate"}]},
    ),
    refused("demonstrations instead of seeds", "spec.data: recipe reversegen needs data.prompts.url", data=None),
    # --- values that do not go together
    refused(
        "a stage of another recipe",
        "has the further trainings warmUp, harden",
        training={"stages": [{"name": "improver", "epochs": 1}]},
    ),
    refused(
        "an override of the last iteration",
        "spec.training.iterationOverrides[2]",
        "trains no proposer",
        training={"iterationOverrides": [{"fromIteration": 2, "beta": 0.5}]},
    ),
    refused(
        "a proposer that is not shown its context",
        "roles[propose].template",
        "leaves out context",
        **{"generation.roles[propose].template": "Write one."},
    ),
    refused("the best of one model", "so there is nothing to select", evaluation={"selectBy": "win"}),
    refused(
        "equal answers kept", "pairs two proposals that differ already", **{"generation.filters": {"identical": "Keep"}}
    ),
    refused(
        "options without their recipe",
        "spec.reversegen belongs to recipe reversegen",
        recipe="sao",
        data={"personas": {"count": 4}},
    ),
]
