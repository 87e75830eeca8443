"""Rules of FSPO: labels that are given or made, one round, users and questions of its own held out."""

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from selfalign_api.evaluation import FspoOptions
from selfalign_api.method import Columns, Source
from selfalign_api.rule_table.recipes import listed
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec


def _preferences(spec: Spec) -> Source | None:
    return spec.data.preferences if spec.data is not None else None


def _columns(spec: Spec) -> Columns:
    source = _preferences(spec)
    return (source.columns if source is not None else None) or Columns()


def _describes(spec: Spec) -> bool:
    return spec.fspo is not None and spec.fspo.describe_user == "BeforeAnswer"


LABELLED = "(self.recipe == 'fspo' && has(self.data) && has(self.data.preferences))"
MADE_BY = ("questions_per_user", "views_per_question", "responder_model_names")  # options of labels that a run makes
MAKING = ("listViews", "respondView", "describeUser")  # roles of the same
_METHODS = ("logprobs", "generate", "random")


def is_labelled(spec: Spec) -> bool:
    """Whether it is a run of fspo on preferences that say whose they are."""
    return spec.recipe == "fspo" and _preferences(spec) is not None


def _options(spec: Spec) -> FspoOptions:
    return spec.fspo or FspoOptions()


def _responders(spec: Spec) -> tuple[str, ...]:
    return _options(spec).responder_model_names or ("initial",)


def _writers(spec: Spec) -> tuple[str, ...]:
    return ("initial", *(model.name for model in spec.auxiliary_models or () if model.kind in (None, "Causal")))


def _of_made_labels(name: str) -> Rule[Spec]:
    option = to_camel(name)
    return Rule(
        Spec,
        f"fspo.{option}",
        f"!{LABELLED} || " + given(f"fspo.{option}") + "false",
        f"is of labels that the run makes, and data.preferences has them; remove {option}",
        lambda spec: not is_labelled(spec) or getattr(_options(spec), name) is None,
    )


FEW_SHOT_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Spec,
        "data",
        "self.recipe != 'fspo' || (has(self.data) && (has(self.data.preferences) != has(self.data.prompts)))",
        "fspo reads preferences that say whose they are, or has users label answers to prompts; write data: {preferences: {url: "
        "URL}}, or data: {prompts: {url: URL}}",
        lambda spec: (
            spec.recipe != "fspo"
            or (spec.data is not None and (spec.data.preferences is None) != (spec.data.prompts is None))
        ),
    ),
    Rule(
        Spec,
        "data.users",
        "self.recipe != 'fspo' || " + given("data.users") + "!has(self.data.preferences)",
        "preferences say whose they are already; remove users, or write prompts instead of preferences",
        lambda spec: not is_labelled(spec) or spec.data is None or spec.data.users is None,
    ),
    Rule(
        Spec,
        "data.preferences.url",
        f"!{LABELLED} || has(self.data.preferences.url)",
        "preferences need a place; write url: hf://datasets/ORG/NAME",
        lambda spec: not is_labelled(spec) or ((source := _preferences(spec)) is not None and source.url is not None),
    ),
    *(_of_made_labels(name) for name in MADE_BY),
    Rule(
        Spec,
        "generation.roles",
        f"!{LABELLED} || " + given("generation.roles") + f"self.generation.roles.all(r, !(r.name in {listed(MAKING)}))",
        f"{', '.join(MAKING)} make labels, and data.preferences has them; remove these roles",
        lambda spec: (
            not is_labelled(spec)
            or spec.generation is None
            or all(role.name not in MAKING for role in spec.generation.roles or ())
        ),
    ),
    Rule(
        Spec,
        "fspo.responderModelNames",
        given("fspo.responderModelNames")
        + "self.fspo.responderModelNames.all(n, n == 'initial' || (has(self.auxiliaryModels) && "
        + "self.auxiliaryModels.exists(m, m.name == n && (!has(m.kind) || m.kind == 'Causal'))))",
        "names no model that writes; write initial, or names of entries of auxiliaryModels of kind Causal",
        lambda spec: {*_responders(spec)} <= {*_writers(spec)},
    ),
    Rule(
        Spec,
        "fspo.responderModelNames",
        given("fspo.responderModelNames")
        + "self.fspo.responderModelNames.all(n, self.fspo.responderModelNames.exists_one(m, m == n))",
        "names a model twice; a responder answers from each viewpoint once",
        lambda spec: len({*_responders(spec)}) == len(_responders(spec)),
    ),
    Rule(
        Spec,
        "fspo.viewsPerQuestion",
        given("fspo.viewsPerQuestion")
        + "self.fspo.viewsPerQuestion > 1 || (has(self.fspo.responderModelNames) && self.fspo.responderModelNames.size() > 1)",
        "one answer to a question is no pair; write viewsPerQuestion: 2 or more, or more responderModelNames",
        lambda spec: _options(spec).views_per_question != 1 or len(_responders(spec)) > 1,
    ),
    Rule(
        Spec,
        "fspo.questionsPerUser",
        given("fspo.questionsPerUser") + "self.fspo.questionsPerUser > (has(self.fspo.shots) ? self.fspo.shots : 8)",
        "a user is shown with fspo.shots pairs (8, where it is not written) and asked another question; write more "
        "questionsPerUser, or fewer shots",
        lambda spec: (asked := _options(spec).questions_per_user) is None or asked > (_options(spec).shots or 8),
    ),
    Rule(
        Spec,
        "judge.method",
        f"self.recipe != 'fspo' || {LABELLED} || " + given("judge.method") + f"self.judge.method in {listed(_METHODS)}",
        "labels of a user are asked for in both orders of a judge who is told what the user is like; write judge.method: "
        "logprobs or generate",
        lambda spec: (
            spec.recipe != "fspo" or is_labelled(spec) or spec.judge is None or spec.judge.method in (None, *_METHODS)
        ),
    ),
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
