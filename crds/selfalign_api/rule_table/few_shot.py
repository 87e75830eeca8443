"""Rules of FSPO: one round, users and questions of its own held out, columns that tell of users."""

from __future__ import annotations

from typing import Any

from selfalign_api.method import Columns, Source
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec


def _preferences(spec: Spec) -> Source | None:
    return spec.data.preferences if spec.data is not None else None


def _columns(spec: Spec) -> Columns:
    source = _preferences(spec)
    return (source.columns if source is not None else None) or Columns()


def _describes(spec: Spec) -> bool:
    return spec.fspo is not None and spec.fspo.describe_user == "BeforeAnswer"


FEW_SHOT_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Spec,
        "iterations",
        "self.recipe != 'fspo' || " + given("iterations") + "self.iterations == 1",
        "fspo makes one round; write iterations: 1, or remove it",
        lambda spec: spec.recipe != "fspo" or spec.iterations in (None, 1),
    ),
    Rule(
        Spec,
        "iteration",
        "self.recipe != 'fspo' || !has(self.iteration)",
        "fspo makes one round, from and against what its stage sft made; remove iteration",
        lambda spec: spec.recipe != "fspo" or spec.iteration is None,
    ),
    Rule(
        Spec,
        "training.iterationOverrides",
        "self.recipe != 'fspo' || "
        + given("training.iterationOverrides")
        + "self.training.iterationOverrides.size() == 0",
        "fspo makes one round; move the values to training itself, and remove iterationOverrides",
        lambda spec: spec.recipe != "fspo" or spec.training is None or not spec.training.iteration_overrides,
    ),
    Rule(
        Spec,
        "evaluation.prompts",
        "self.recipe != 'fspo' || " + given("evaluation.prompts") + "false",
        "fspo asks for what users of its own data prefer, of whom it holds out a tenth; remove evaluation.prompts",
        lambda spec: spec.recipe != "fspo" or spec.evaluation is None or spec.evaluation.prompts is None,
    ),
    Rule(
        Spec,
        "data.preferences.turn",
        "self.recipe != 'fspo' || " + given("data.preferences.turn") + "self.data.preferences.turn == 'First'",
        "fspo shows a user's pairs of one turn each; write turn: First, or remove it",
        lambda spec: spec.recipe != "fspo" or (source := _preferences(spec)) is None or source.turn in (None, "First"),
    ),
    Rule(
        Spec,
        "data.preferences.columns.user",
        "self.recipe == 'fspo' || " + given("data.preferences.columns.user") + "false",
        "whose preference it is counts for recipe fspo only; remove user, or write recipe: fspo",
        lambda spec: spec.recipe == "fspo" or _columns(spec).user is None,
    ),
    Rule(
        Spec,
        "data.preferences.columns.description",
        given("data.preferences.columns.description")
        + "(self.recipe == 'fspo' && has(self.fspo) && has(self.fspo.describeUser) && self.fspo.describeUser == 'BeforeAnswer')",
        "what users are like is read by recipe fspo where answers begin with it; write fspo: {describeUser: BeforeAnswer}, or "
        "remove description",
        lambda spec: _columns(spec).description is None or (spec.recipe == "fspo" and _describes(spec)),
    ),
)
