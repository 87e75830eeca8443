"""Rules of the recipe almost: its responders, its one pass, and the losses of its last training."""

from __future__ import annotations

from typing import Any

from selfalign_api.evaluation import AlmostOptions, Responder
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec
from selfalign_api.training import Loss


def _responders(spec: Spec) -> tuple[Responder, ...]:
    return () if spec.almost is None else spec.almost.responders


def _writers(spec: Spec) -> tuple[str, ...]:
    return tuple(model.name for model in spec.auxiliary_models or () if model.kind in (None, "Causal"))


def _loss(spec: Spec) -> Loss:
    return (spec.training.loss if spec.training is not None else None) or Loss()


def _tunes(spec: Spec) -> bool:
    """Whether the last training is a fine-tuning."""
    return spec.almost is not None and spec.almost.finish in (None, "BestOfN")


_TUNES = "(!has(self.almost.finish) || self.almost.finish == 'BestOfN')"

ALMOST_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Spec,
        "almost",
        "self.recipe != 'almost' || has(self.almost)",
        "recipe almost needs its responders, the strongest first; write almost: {responders: [{modelName: NAME}, {modelName: "
        "initial}]}",
        lambda spec: spec.recipe != "almost" or spec.almost is not None,
    ),
    Rule(
        Spec,
        "almost.responders",
        given("almost") + "self.almost.responders.all(r, r.modelName == 'initial' || (has(self.auxiliaryModels) && "
        "self.auxiliaryModels.exists(m, m.name == r.modelName && (!has(m.kind) || m.kind == 'Causal'))))",
        "names a model that does not answer here; write initial, or the name of an entry of auxiliaryModels of kind Causal",
        lambda spec: all(each.model_name in ("initial", *_writers(spec)) for each in _responders(spec)),
        meant=lambda spec: " or ".join(_writers(spec)) or None,
    ),
    Rule(
        AlmostOptions,
        "poolModelName",
        given("poolModelName") + "self.responders.exists(r, r.modelName == self.poolModelName)",
        "names no responder; write the modelName of one of them, or remove it",
        lambda options: (
            options.pool_model_name is None
            or options.pool_model_name in {each.model_name for each in options.responders}
        ),
    ),
    Rule(
        Responder,
        "demonstrations",
        given("demonstrations") + "has(self.shots) && self.shots > 0",
        "says which demonstrations stand before the prompt, and none do; write shots: 3, or remove it",
        lambda responder: responder.demonstrations is None or bool(responder.shots),
    ),
    Rule(
        Spec,
        "iterations",
        "self.recipe != 'almost' || " + given("iterations") + "self.iterations == 1",
        "ALMoST is one pass: its reward model is trained on the initial model's answers and others'; remove iterations",
        lambda spec: spec.recipe != "almost" or spec.iterations in (None, 1),
    ),
    Rule(
        Spec,
        "training.loss.type",
        given("training.loss.type")
        + f"self.training.loss.type != 'sft' || (self.recipe == 'almost' && has(self.almost) && {_TUNES})",
        "sft learns one answer to a prompt, as recipe almost does with finish: BestOfN; a recipe that makes pairs trains on "
        "pairs: write loss.type: dpo",
        lambda spec: _loss(spec).type != "sft" or (spec.recipe == "almost" and _tunes(spec)),
    ),
    Rule(
        Spec,
        "training.loss",
        "self.recipe != 'almost' || "
        + given("almost", "training.loss")
        + f"!{_TUNES} || ((!has(self.training.loss.type) || self.training.loss.type == 'sft') && !has(self.training.loss.beta))",
        "is of pairs, and almost fine-tunes on the best answers; write loss: {type: sft}, or almost.finish: SampleRankDPO",
        lambda spec: (
            spec.recipe != "almost"
            or not _tunes(spec)
            or (_loss(spec).type in (None, "sft") and _loss(spec).beta is None)
        ),
    ),
)
