"""Rules of generation and judging: roles, filters, helper models, scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from selfalign_api.generation import Generation, Judge, NearDuplicates, Role
from selfalign_api.method import AuxiliaryModel
from selfalign_api.rule_table.few_shot import LABELLED, is_labelled
from selfalign_api.rule_table.recipes import listed
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import Spec


def _roles(generation: Generation | None) -> tuple[Role, ...]:
    return () if generation is None else generation.roles or ()


def _judge_name(spec: Spec) -> str:
    return (spec.judge and spec.judge.model_name) or "self"


def _counted(spec: Spec) -> tuple[str, ...]:
    generation = spec.compute.generation if spec.compute is not None else None
    return tuple(model.model_name for model in (generation.models if generation is not None else None) or ())


def _kind_of_judge(spec: Spec) -> str:
    kinds = {model.name: model.kind or "Causal" for model in spec.auxiliary_models or ()}
    return kinds.get(_judge_name(spec), "Causal")


def _helpers(spec: Spec) -> tuple[str, ...]:
    return tuple(model.name for model in spec.auxiliary_models or ())


# The roles of each recipe, and those whose judge must score; a recipe says the same of itself, and a test holds both.
ROLES: dict[str, tuple[str, ...]] = {
    "sao": ("writePrompt", "respond", "judge"),
    "pairs": ("respond", "judge"),
    "spin": ("respond", "judge"),
    "selm": ("respond", "judge"),
    "synpo": ("writePrompt", "respond", "improve", "judge"),
    "fspo": ("listViews", "respondView", "respond", "describeUser", "judge"),
    "almost": ("respond", "judge"),
    "reversegen": ("propose", "verify", "respond", "guard", "teach", "judge"),
    "pit": ("respond", "improve", "judge"),
}
SCORED = ("synpo",)


SCORING = ("RewardModel", "PairRanker", "Classifier")  # kinds of models that give scores
_JUDGE_SCORES = (
    "has(self.judge.modelName) && has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, "
    f"m.name == self.judge.modelName && has(m.kind) && m.kind in {listed(SCORING)})"
)


def _embedder_name(spec: Spec) -> str | None:
    filters = spec.generation.filters if spec.generation else None
    return filters.near_duplicates.model_name if filters and filters.near_duplicates else None


def _every_role() -> Iterable[str]:
    return (name for names in ROLES.values() for name in names)


def _roles_of(recipe: str, names: tuple[str, ...]) -> Rule[Spec]:
    known = f"self.generation.roles.all(r, r.name in {listed(names)})"
    return Rule(
        Spec,
        "generation.roles",
        f"self.recipe != '{recipe}' || {given('generation.roles')}{known}",
        f"recipe {recipe} has the roles {', '.join(names)}; use one of these names in generation.roles",
        lambda spec: spec.recipe != recipe or all(role.name in names for role in _roles(spec.generation)),
    )


GENERATION_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Role,
        "",
        "!(has(self.template) && has(self.templateUrl))",
        "write template or templateUrl, not both",
        lambda role: role.template is None or role.template_url is None,
    ),
    Rule(
        Generation,
        "roles",
        given("maxModelTokens", "roles") + "self.roles.all(r, !has(r.maxTokens) || r.maxTokens < self.maxModelTokens)",
        "a role's maxTokens must leave room for its prompt; write less than maxModelTokens",
        lambda generation: (
            generation.max_model_tokens is None
            or all((role.max_tokens or 0) < generation.max_model_tokens for role in _roles(generation))
        ),
    ),
    Rule(
        Spec,
        "generation.roles",
        "!(self.recipe in ['sao', 'almost']) || "
        + given("generation.roles")
        + "self.generation.roles.all(r, r.name != 'respond' || !has(r.temperature) || r.temperature > 0.0)",
        "sao and almost compare several answers of role respond, which are equal at temperature 0; write a temperature above 0",
        lambda spec: (
            spec.recipe not in ("sao", "almost")
            or all(role.name != "respond" or role.temperature != 0 for role in _roles(spec.generation))
        ),
    ),
    Rule(
        Spec,
        "generation.roles",
        "self.recipe != 'pit' || "
        + given("generation.roles")
        + "self.generation.roles.all(r, r.name != 'improve' || !has(r.temperature) || r.temperature > 0.0)",
        "pit ranks several candidates of role improve, which are equal at temperature 0; write a temperature above 0",
        lambda spec: (
            spec.recipe != "pit"
            or all(role.name != "improve" or role.temperature != 0 for role in _roles(spec.generation))
        ),
    ),
    *(_roles_of(recipe, names) for recipe, names in ROLES.items() if {*names} < {*_every_role()}),
    Rule(
        AuxiliaryModel,
        "name",
        "!(self.name in ['self', 'initial', 'policy'])",
        "self, initial and policy name the run's own model; write another name",
        lambda model: model.name not in ("self", "initial", "policy"),
    ),
    Rule(
        AuxiliaryModel,
        "label",
        "(has(self.kind) && self.kind == 'Classifier') == has(self.label)",
        "a Classifier's score is that of one of its labels, and no other kind has any; write kind: Classifier with label: "
        "NAME, as id2label of its config.json names it",
        lambda model: (model.kind == "Classifier") == (model.label is not None),
    ),
    Rule(
        Spec,
        "judge.modelName",
        given("judge.modelName")
        + "self.judge.modelName in ['self', 'initial'] || (has(self.auxiliaryModels) && "
        + "self.auxiliaryModels.exists(m, m.name == self.judge.modelName))",
        "names no model; write self, initial, or the name of an entry of auxiliaryModels",
        lambda spec: _judge_name(spec) in ("self", "initial", *_helpers(spec)),
        meant=lambda spec: " or ".join(_helpers(spec)) or None,
    ),
    Rule(
        Spec,
        "judge.method",
        given("judge.method") + f"(self.judge.method == 'score') == ({_JUDGE_SCORES})",
        "method score needs a model that scores and the other methods one that writes; write judge: {method: score, "
        "modelName: NAME} with kind: RewardModel, PairRanker or Classifier in auxiliaryModels, or method: logprobs",
        lambda spec: (
            spec.judge is None
            or spec.judge.method is None
            or (spec.judge.method == "score") == (_kind_of_judge(spec) in SCORING)
        ),
    ),
    Rule(
        Spec,
        "judge",
        f"!(self.recipe in {listed(SCORED)}) || (has(self.judge) && {_JUDGE_SCORES})",
        f"{', '.join(SCORED)} keeps what a scoring model finds better by a gap; write judge: {{method: score, modelName: NAME}}, "
        "and NAME with kind: RewardModel, PairRanker or Classifier in auxiliaryModels",
        lambda spec: spec.recipe not in SCORED or _kind_of_judge(spec) in SCORING,
    ),
    Rule(
        Spec,
        "generation.filters.maxRepetitionPercent",
        "self.recipe == 'synpo' || " + given("generation.filters.maxRepetitionPercent") + "false",
        "maxRepetitionPercent is read by synpo only; remove it or change recipe",
        lambda spec: (
            spec.recipe == "synpo"
            or spec.generation is None
            or spec.generation.filters is None
            or spec.generation.filters.max_repetition_percent is None
        ),
    ),
    Rule(
        Spec,
        "generation.roles",
        "!(self.recipe in ['spin', 'selm', 'synpo', 'fspo', 'almost', 'pit']) || "
        + given("generation.roles")
        + "self.generation.roles.all(r, !(r.name in ['respond', 'improve']) || !has(r.reasoning) || r.reasoning == 'Strip')",
        "given answers have no reasoning, and own answers that have it could be told by it; remove reasoning: Keep",
        lambda spec: (
            spec.recipe not in ("spin", "selm", "synpo", "fspo", "almost", "pit")
            or all(
                role.name not in ("respond", "improve") or role.reasoning != "Keep" for role in _roles(spec.generation)
            )
        ),
    ),
    Rule(
        Spec,
        "judge.method",
        "self.recipe != 'selm' || " + given("judge.method") + "self.judge.method != 'paper'",
        "paper is SAO's one order of two answers, and selm ranks three in all orders; write judge.method: score, logprobs or "
        "generate",
        lambda spec: spec.recipe != "selm" or spec.judge is None or spec.judge.method != "paper",
    ),
    Rule(
        Spec,
        "output.datasetUrl",
        "!(self.recipe == 'pairs' || " + LABELLED + ") || " + given("output.datasetUrl") + "false",
        "pairs of your own are not copied, and none are made; remove datasetUrl",
        lambda spec: (
            not (spec.recipe == "pairs" or is_labelled(spec)) or spec.output is None or spec.output.dataset_url is None
        ),
    ),
    Rule(
        Spec,
        "generation.filters.truncated",
        "!(self.recipe == 'pairs' || " + LABELLED + ") || " + given("generation.filters.truncated") + "false",
        "pairs of your own were not cut by anybody here; remove truncated",
        lambda spec: (
            not (spec.recipe == "pairs" or is_labelled(spec))
            or spec.generation is None
            or spec.generation.filters is None
            or spec.generation.filters.truncated is None
        ),
    ),
    Rule(
        Spec,
        "generation.filters.nearDuplicates",
        "self.recipe in ['synpo', 'reversegen'] || self.recipe == 'sao' && !(has(self.data) && has(self.data.prompts)) || "
        + given("generation.filters.nearDuplicates")
        + "false",
        "only prompts that a model writes, sao's from personas, synpo's and reversegen's, are compared; yours are taken as they "
        "are; remove nearDuplicates",
        lambda spec: (
            spec.recipe in ("synpo", "reversegen")
            or (spec.recipe == "sao" and not (spec.data and spec.data.prompts))
            or spec.generation is None
            or spec.generation.filters is None
            or spec.generation.filters.near_duplicates is None
        ),
    ),
    Rule(
        NearDuplicates,
        "",
        given("method") + "self.method != 'Exact' || !(has(self.threshold) || has(self.ngram))",
        "threshold and ngram are MinHash's; remove them, or write method: MinHash",
        lambda near: near.method != "Exact" or (near.threshold is None and near.ngram is None),
    ),
    Rule(
        NearDuplicates,
        "",
        given("method") + "self.method != 'Embedding' || !has(self.ngram)",
        "ngram is MinHash's; remove it, or write method: MinHash",
        lambda near: near.method != "Embedding" or near.ngram is None,
    ),
    Rule(
        NearDuplicates,
        "",
        "(has(self.method) && self.method == 'Embedding') == has(self.modelName)",
        "Embedding needs the name of a model, and the others have none; write {method: Embedding, modelName: NAME}, or "
        "{method: MinHash}",
        lambda near: (near.method == "Embedding") == (near.model_name is not None),
    ),
    Rule(
        Spec,
        "generation.filters.nearDuplicates.modelName",
        given("generation.filters.nearDuplicates.modelName")
        + "has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, m.name == "
        + "self.generation.filters.nearDuplicates.modelName && has(m.kind) && m.kind == 'Embedder')",
        "names no model that gives vectors; write the name of an entry of auxiliaryModels with kind: Embedder",
        lambda spec: (
            (name := _embedder_name(spec)) is None
            or any(each.name == name and each.kind == "Embedder" for each in spec.auxiliary_models or ())
        ),
    ),
    Rule(
        Spec,
        "compute.generation.models",
        given("compute.generation.models")
        + "self.compute.generation.models.all(m, has(self.auxiliaryModels) && "
        + "self.auxiliaryModels.exists(a, a.name == m.modelName))",
        "counts for a model that is not there; write the names of entries of auxiliaryModels",
        lambda spec: all(name in _helpers(spec) for name in _counted(spec)),
    ),
    Rule(
        Judge,
        "minScoreGap",
        given("minScoreGap") + "has(self.method) && self.method == 'score'",
        "minScoreGap is in a scoring model's units; write judge.method: score, or remove it",
        lambda judge: judge.min_score_gap is None or judge.method == "score",
    ),
    Rule(
        Judge,
        "tieMargin",
        given("tieMargin", "method") + "self.method == 'logprobs'",
        "tieMargin is a probability of method logprobs; write judge.method: logprobs, or remove tieMargin",
        lambda judge: judge.tie_margin is None or judge.method in (None, "logprobs"),
    ),
    Rule(
        Judge,
        "verdicts",
        given("verdicts", "method") + "self.method == 'logprobs'",
        "verdicts are compared by method logprobs; write judge.method: logprobs, or remove verdicts",
        lambda judge: judge.verdicts is None or judge.method in (None, "logprobs"),
    ),
    Rule(
        Judge,
        "verdicts",
        given("verdicts") + "self.verdicts[0] != self.verdicts[1]",
        "the two candidate verdicts are equal, so none can win; write two that differ",
        lambda judge: judge.verdicts is None or judge.verdicts[0] != judge.verdicts[1],
    ),
)
