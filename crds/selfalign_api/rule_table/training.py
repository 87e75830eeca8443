"""Rules of trainings: losses and their constants, further trainings, overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec
from selfalign_api.training import STAGES, IterationOverride, Loss, Training


def _overrides(spec: Spec) -> tuple[IterationOverride, ...]:
    return (spec.training.iteration_overrides if spec.training is not None else None) or ()


def _latest_override(spec: Spec) -> int:
    return max((override.from_iteration for override in _overrides(spec)), default=0)


def _loss(spec: Spec) -> Loss:
    return (spec.training.loss if spec.training is not None else None) or Loss()


def _stage_names(spec: Spec) -> list[str]:
    return [stage.name for stage in (spec.training.stages if spec.training is not None else None) or ()]


def stage_rules(stages: Mapping[str, tuple[str, ...]]) -> tuple[Rule[Spec], ...]:
    """What training.stages may name, where these recipes have these further trainings."""
    having = " || ".join(f"self.recipe == '{recipe}'" for recipe in stages) or "false"
    none = Rule(
        Spec,
        "training.stages",
        given("training.stages") + f"self.training.stages.size() == 0 || {having}",
        "this recipe has one training only; move the values to training itself, and remove stages",
        lambda spec: not _stage_names(spec) or spec.recipe in stages,
    )
    return (none, *(_stages_of(recipe, names) for recipe, names in stages.items()))


def _stages_of(recipe: str, names: tuple[str, ...]) -> Rule[Spec]:
    known = ", ".join(f"'{name}'" for name in names)
    return Rule(
        Spec,
        "training.stages",
        f"self.recipe != '{recipe}' || {given('training.stages')}self.training.stages.all(s, s.name in [{known}])",
        f"recipe {recipe} has the further trainings {', '.join(names)}; use one of these names in training.stages",
        lambda spec: spec.recipe != recipe or set(_stage_names(spec)) <= set(names),
    )


TRAINING_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Loss,
        "gamma",
        given("gamma", "type") + "self.type == 'simpo'",
        "gamma is SimPO's margin; write loss.type: simpo, or remove gamma",
        lambda loss: loss.gamma is None or loss.type in (None, "simpo"),
    ),
    Rule(
        Loss,
        "alpha",
        given("alpha", "type") + "self.type == 'selm'",
        "alpha weighs SELM's optimism term; write loss.type: selm, or remove alpha",
        lambda loss: loss.alpha is None or loss.type in (None, "selm"),
    ),
    Rule(
        Spec,
        "training.loss.type",
        given("training.loss.type") + "self.training.loss.type != 'selm' || self.recipe == 'selm'",
        "loss selm needs the model's own answers, which only recipe selm keeps; write recipe: selm, or loss.type: dpo",
        lambda spec: _loss(spec).type != "selm" or spec.recipe == "selm",
    ),
    Rule(
        Spec,
        "training.loss.alpha",
        given("training.loss.alpha") + "self.recipe == 'selm'",
        "alpha weighs the optimism term of recipe selm; write recipe: selm, or remove alpha",
        lambda spec: _loss(spec).alpha is None or spec.recipe == "selm",
    ),
    Rule(
        Spec,
        "training.iterationOverrides",
        given("training.iterationOverrides")
        + "self.training.iterationOverrides.all(o, !has(o.alpha)) || (self.recipe == 'selm' && ("
        + given("training.loss.type")
        + "self.training.loss.type == 'selm'))",
        "alpha weighs SELM's optimism term; remove it from iterationOverrides, or write recipe: selm and loss.type: selm",
        lambda spec: (
            all(override.alpha is None for override in _overrides(spec))
            or (spec.recipe == "selm" and _loss(spec).type in (None, "selm"))
        ),
    ),
    Rule(
        Loss,
        "labelSmoothing",
        given("labelSmoothing", "type") + "self.type in ['dpo', 'ipo']",
        "labelSmoothing is defined for dpo and ipo; remove it or write loss.type: dpo",
        lambda loss: loss.label_smoothing is None or loss.type in (None, "dpo", "ipo"),
    ),
    Rule(
        Training,
        "maxPromptTokens",
        given("maxPromptTokens", "maxLengthTokens") + "self.maxPromptTokens < self.maxLengthTokens",
        "maxPromptTokens leaves no room for an answer; write a value below maxLengthTokens",
        lambda training: (
            training.max_prompt_tokens is None
            or training.max_length_tokens is None
            or training.max_prompt_tokens < training.max_length_tokens
        ),
    ),
    *stage_rules(STAGES),
    Rule(
        Spec,
        "training.stages",
        given("training.stages", "pit.draftModel")
        + "self.pit.draftModel != 'Initial' || self.training.stages.all(s, s.name != 'draftModel')",
        "with pit.draftModel: Initial the model as given drafts, and none is trained for it; remove the stage draftModel, or "
        "write pit.draftModel: Trained",
        lambda spec: spec.pit is None or spec.pit.draft_model != "Initial" or "draftModel" not in _stage_names(spec),
    ),
    Rule(
        Training,
        "lora",
        given("lora") + "(has(self.adapter) && self.adapter == 'lora')",
        "lora has an effect only with adapter: lora; write that, or remove lora",
        lambda training: training.lora is None or training.adapter == "lora",
    ),
    Rule(
        Spec,
        "output.adapter",
        given("output.adapter")
        + "self.output.adapter != 'Keep' || (has(self.training) && has(self.training.adapter) && self.training.adapter == 'lora')",
        "there is an adapter to keep only with training.adapter: lora; write that, or remove output.adapter",
        lambda spec: (
            spec.output is None
            or spec.output.adapter != "Keep"
            or (spec.training is not None and spec.training.adapter == "lora")
        ),
    ),
    Rule(
        Spec,
        "output.adapter",
        "self.recipe != 'pit' || " + given("output.adapter") + "self.output.adapter != 'Keep'",
        "the improver's adapter sits on a model that only the run's folder has; remove adapter: what is published is whole",
        lambda spec: spec.recipe != "pit" or spec.output is None or spec.output.adapter != "Keep",
    ),
    Rule(
        Spec,
        "training.iterationOverrides",
        given("iterations", "training.iterationOverrides")
        + "self.training.iterationOverrides.all(o, o.fromIteration <= self.iterations)",
        "an override starts after the last iteration; raise iterations or lower fromIteration",
        lambda spec: spec.iterations is None or _latest_override(spec) <= spec.iterations,
    ),
    Rule(
        IterationOverride,
        "",
        "has(self.learningRate) || has(self.beta) || has(self.alpha) || has(self.epochs)",
        "an override sets something; write learningRate, beta, alpha or epochs beside fromIteration",
        lambda override: any(
            value is not None for value in (override.learning_rate, override.beta, override.alpha, override.epochs)
        ),
    ),
)
