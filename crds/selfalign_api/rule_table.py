"""The rules over several fields: one table, in CEL for the CRD and in Python for the local runner.

A rule belongs to a type of the spec and holds wherever that type stands. Its CEL has a has() for each step of an
optional path; `.?x.orValue([])` compiles, but its cost estimate is unbounded and the CRD would be refused. The rules
about a change of the spec are in transition_rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from selfalign_api.base import ApiModel
from selfalign_api.evaluation import Check, Evaluation
from selfalign_api.generation import Generation, Judge, NearDuplicates, Role
from selfalign_api.life import FailurePolicy
from selfalign_api.means import Compute, GenerationCompute, TrainingCompute
from selfalign_api.method import AuxiliaryModel, Model, Output, Source, Storage
from selfalign_api.places import meant
from selfalign_api.run import SelfAlignmentRun, Spec
from selfalign_api.training import STAGES, IterationOverride, Loss, Training

__all__ = ["RULES", "Rule", "stage_rules"]

M = TypeVar("M", bound=ApiModel)


@dataclass(frozen=True)
class Rule(Generic[M]):
    """What must hold for every `on`; `field` is the path under it that the error names ("" for `on` itself).

    `cel` decides on a cluster, `holds` here; they agree but for `here`, which says what one machine takes besides.
    """

    on: type[M]
    field: str
    cel: str
    message: str
    holds: Callable[[M], bool]
    here: Callable[[M], bool] | None = None
    meant: Callable[[M], str | None] = lambda _: None  # what somebody who wrote this may have meant


def given(*paths: str) -> str:
    """The CEL for "one of these is left out, or": a has() for each step of each path below self."""
    steps: dict[str, None] = {}
    for path in paths:
        names = path.split(".")
        steps.update(dict.fromkeys(".".join(names[: depth + 1]) for depth in range(len(names))))
    return "".join(f"!has(self.{step}) || " for step in steps)


# --- places -----------------------------------------------------------------------------------------------------------

_ANYWHERE = re.compile(r"(hf|s3|gs|pvc|file)://.+")
_STORAGE = re.compile(r"(s3|gs|pvc|file)://.+")
_BESIDE = ("./", "../")


def _matches(pattern: re.Pattern[str], url: str | None) -> bool:
    return url is None or pattern.match(url) is not None


def _is_beside(url: str | None) -> bool:
    return url is not None and url.startswith(_BESIDE)


def _place(on: type[M], field: str, get: Callable[[M], str | None], hub: str = "hf://ORG/NAME") -> Rule[M]:
    """The rule that a URL is in our notation; one machine takes a path beside the run file too."""
    optional = not on.model_fields[_python_name(on, field)].is_required()
    return Rule(
        on,
        field,
        (given(field) if optional else "") + f"self.{field}.matches('^(hf|s3|gs|pvc|file)://.+')",
        f"write {hub}, s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, or file:///PATH for a folder inside the "
        "image; a relative path works only with selfalign run",
        lambda it: _matches(_ANYWHERE, get(it)),
        lambda it: _is_beside(get(it)),
        (lambda it: meant(get(it) or "", hub)) if field == "url" else (lambda _: None),  # templates have no page
    )


def _python_name(on: type[ApiModel], field: str) -> str:
    return next(name for name, info in on.model_fields.items() if info.alias == field)


def _no_dataset(on: type[M], get: Callable[[M], str]) -> Rule[M]:
    return Rule(
        on,
        "url",
        "!self.url.startsWith('hf://datasets/')",
        "this is a dataset; for a model write hf://ORG/NAME or hf://ORG/NAME@REVISION",
        lambda it: not get(it).startswith("hf://datasets/"),
    )


def _output(field: str, get: Callable[[Output], str | None]) -> Rule[Output]:
    return Rule(
        Output,
        field,
        given(field) + f"self.{field}.matches('^(s3|gs|pvc|file)://.+')",
        "write the folder that it is copied to: s3://BUCKET/PATH, gs://BUCKET/PATH or pvc://CLAIM/PATH (`hf upload` takes "
        "it from there to the hub); a relative path works only with selfalign run",
        lambda output: _matches(_STORAGE, get(output)),
        lambda output: _is_beside(get(output)),
    )


PLACE_RULES: tuple[Rule[Any], ...] = (
    _place(Model, "url", lambda model: model.url),
    _place(AuxiliaryModel, "url", lambda model: model.url),
    _place(Model, "chatTemplateUrl", lambda model: model.chat_template_url),
    _place(Role, "templateUrl", lambda role: role.template_url),
    _place(Source, "url", lambda source: source.url, "hf://datasets/ORG/NAME"),
    _no_dataset(Model, lambda model: model.url),
    _no_dataset(AuxiliaryModel, lambda model: model.url),
    Rule(
        Source,
        "url",
        given("url") + "!self.url.startsWith('hf://') || self.url.startsWith('hf://datasets/')",
        "this is a model; for data write hf://datasets/ORG/NAME or hf://datasets/ORG/NAME/FILE",
        lambda source: (
            source.url is None or not source.url.startswith("hf://") or source.url.startswith("hf://datasets/")
        ),
    ),
    Rule(
        Storage,
        "url",
        given("url") + "self.url.matches('^(s3|gs|pvc|file)://.+')",
        "a run appends to its storage, which the hub cannot do; write s3://BUCKET/PATH, gs://BUCKET/PATH or "
        "pvc://CLAIM/PATH; a relative path works only with selfalign run",
        lambda storage: _matches(_STORAGE, storage.url),
        lambda storage: _is_beside(storage.url),
    ),
    _output("url", lambda output: output.url),
    _output("datasetUrl", lambda output: output.dataset_url),
    Rule(
        Output,
        "adapter",
        given("adapter") + "has(self.url)",
        "says what goes to output.url, which is not written; write it, or remove adapter",
        lambda output: output.adapter is None or output.url is not None,
    ),
    Rule(
        Storage,
        "reuseFrom",
        given("reuseFrom") + "self.reuseFrom.all(u, u.matches('^(s3|gs|pvc|file)://.+'))",
        "write the folders of other runs: s3://BUCKET/PATH, gs://BUCKET/PATH or pvc://CLAIM/PATH; a relative path "
        "works only with selfalign run",
        lambda storage: all(_matches(_STORAGE, url) for url in storage.reuse_from or ()),
        lambda storage: all(_matches(_STORAGE, url) or _is_beside(url) for url in storage.reuse_from or ()),
    ),
)

# --- the recipe and its data ------------------------------------------------------------------------------------------


def _has_url(source: Source | None) -> bool:
    return source is not None and source.url is not None


# Which recipes read a kind of data, and which need it; a recipe says the same of itself (Recipe.data), and a test holds both.
READ_BY = {
    "personas": ("sao",),
    "prompts": ("sao",),
    "demonstrations": ("spin", "synpo"),
    "preferences": ("pairs", "selm"),
    "corpus": ("synpo",),
}
NEEDED_BY = {"demonstrations": ("spin", "synpo"), "preferences": ("pairs", "selm"), "corpus": ("synpo",)}


def _source(spec: Spec, kind: str) -> Source | None:
    source: Source | None = getattr(spec.data, kind, None)
    return source


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(repr(name) for name in names)}]"


def _read_by(kind: str, recipes: tuple[str, ...]) -> Rule[Spec]:
    return Rule(
        Spec,
        f"data.{kind}",
        given(f"data.{kind}") + f"self.recipe in {_listed(recipes)}",
        f"data.{kind} is read by {', '.join(recipes)} only; remove it or change recipe",
        lambda spec: _source(spec, kind) is None or spec.recipe in recipes,
    )


def _needed_by(kind: str, recipe: str) -> Rule[Spec]:
    return Rule(
        Spec,
        "data",
        f"self.recipe != '{recipe}' || (has(self.data) && has(self.data.{kind}) && has(self.data.{kind}.url))",
        f"recipe {recipe} needs data.{kind}.url; write data: {{{kind}: {{url: hf://datasets/ORG/NAME}}}}",
        lambda spec: spec.recipe != recipe or _has_url(_source(spec, kind)),
    )


def _options_of(recipe: str) -> Rule[Spec]:
    return Rule(
        Spec,
        recipe,
        given(recipe) + f"self.recipe == '{recipe}'",
        f"spec.{recipe} belongs to recipe {recipe}; write recipe: {recipe}, or remove spec.{recipe}",
        lambda spec: getattr(spec, recipe) is None or spec.recipe == recipe,
    )


RECIPE_RULES: tuple[Rule[Any], ...] = (
    Rule(
        SelfAlignmentRun,
        "metadata.name",
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",
        "the name becomes part of a DNS name; use at most 40 of a-z, 0-9 and -, starting with a letter",
        lambda run: re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", run.metadata.name) is not None,
    ),
    *(_options_of(recipe) for recipe in ("sao", "selm", "synpo")),
    *(_read_by(kind, recipes) for kind, recipes in READ_BY.items()),
    *(_needed_by(kind, recipe) for kind, recipes in NEEDED_BY.items() for recipe in recipes),
    Rule(
        Spec,
        "data",
        "self.recipe != 'sao' || " + given("data") + "!(has(self.data.personas) && has(self.data.prompts))",
        "sao writes its prompts from personas or takes yours; keep data.personas or data.prompts, not both",
        lambda spec: (
            spec.recipe != "sao" or spec.data is None or spec.data.personas is None or spec.data.prompts is None
        ),
    ),
    Rule(
        Spec,
        "data.prompts.url",
        given("data.prompts") + "has(self.data.prompts.url)",
        "prompts of your own need a place; write url: hf://datasets/ORG/NAME, or remove data.prompts",
        lambda spec: spec.data is None or spec.data.prompts is None or spec.data.prompts.url is not None,
    ),
    Rule(
        Spec,
        "selm.firstIteration",
        given("iterations", "selm.firstIteration") + "self.selm.firstIteration != 'Offline' || self.iterations > 1",
        "an offline iteration explores nothing, and there is no other; write iterations: 2 or more, or recipe: pairs",
        lambda spec: (
            spec.iterations is None
            or spec.iterations > 1
            or spec.selm is None
            or spec.selm.first_iteration != "Offline"
        ),
    ),
)

# --- generation and judge ---------------------------------------------------------------------------------------------


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
}
SCORED = ("synpo",)


SCORING = ("RewardModel", "PairRanker", "Classifier")  # kinds of models that give scores
_JUDGE_SCORES = (
    "has(self.judge.modelName) && has(self.auxiliaryModels) && self.auxiliaryModels.exists(m, "
    f"m.name == self.judge.modelName && has(m.kind) && m.kind in {_listed(SCORING)})"
)


def _every_role() -> Iterable[str]:
    return (name for names in ROLES.values() for name in names)


def _roles_of(recipe: str, names: tuple[str, ...]) -> Rule[Spec]:
    known = f"self.generation.roles.all(r, r.name in {_listed(names)})"
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
        "self.recipe != 'sao' || "
        + given("generation.roles")
        + "self.generation.roles.all(r, r.name != 'respond' || !has(r.temperature) || r.temperature > 0.0)",
        "sao compares two answers of role respond, which are equal at temperature 0; write a temperature above 0",
        lambda spec: (
            spec.recipe != "sao"
            or all(role.name != "respond" or role.temperature != 0 for role in _roles(spec.generation))
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
        f"!(self.recipe in {_listed(SCORED)}) || (has(self.judge) && {_JUDGE_SCORES})",
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
        "!(self.recipe in ['spin', 'selm', 'synpo']) || "
        + given("generation.roles")
        + "self.generation.roles.all(r, !(r.name in ['respond', 'improve']) || !has(r.reasoning) || r.reasoning == 'Strip')",
        "given answers have no reasoning, and own answers that have it could be told by it; remove reasoning: Keep",
        lambda spec: (
            spec.recipe not in ("spin", "selm", "synpo")
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
        "self.recipe != 'pairs' || " + given("output.datasetUrl") + "false",
        "recipe pairs makes no pairs that could be copied; remove datasetUrl",
        lambda spec: spec.recipe != "pairs" or spec.output is None or spec.output.dataset_url is None,
    ),
    Rule(
        Spec,
        "generation.filters.truncated",
        "self.recipe != 'pairs' || " + given("generation.filters.truncated") + "false",
        "pairs of your own were not cut by anybody here; remove truncated",
        lambda spec: (
            spec.recipe != "pairs"
            or spec.generation is None
            or spec.generation.filters is None
            or spec.generation.filters.truncated is None
        ),
    ),
    Rule(
        Spec,
        "generation.filters.nearDuplicates",
        "self.recipe == 'synpo' || self.recipe == 'sao' && !(has(self.data) && has(self.data.prompts)) || "
        + given("generation.filters.nearDuplicates")
        + "false",
        "only prompts that the model writes, sao's from personas and synpo's, are compared; yours are taken as they are; remove "
        "nearDuplicates",
        lambda spec: (
            spec.recipe == "synpo"
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

# --- training ---------------------------------------------------------------------------------------------------------


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

# --- evaluation, means, life ------------------------------------------------------------------------------------------


def _lacks_references(evaluation: Evaluation) -> bool:
    columns = evaluation.prompts.columns if evaluation.prompts is not None else None
    return columns is None or columns.reference is None


def _types_of(evaluation: Evaluation) -> dict[str, str]:
    """The types of its checks by name."""
    return {check.name: check.type for check in evaluation.checks} if evaluation.checks else {"win": "SelfWinRate"}


OTHER_RULES: tuple[Rule[Any], ...] = (
    Rule(
        Check,
        "selfWinRate",
        given("selfWinRate") + "self.type == 'SelfWinRate'",
        "selfWinRate belongs to another type; write type: SelfWinRate, or remove selfWinRate",
        lambda check: check.self_win_rate is None or check.type == "SelfWinRate",
    ),
    Rule(
        Check,
        "exactMatch",
        given("exactMatch") + "self.type == 'ExactMatch'",
        "exactMatch belongs to another type; write type: ExactMatch, or remove exactMatch",
        lambda check: check.exact_match is None or check.type == "ExactMatch",
    ),
    Rule(
        Evaluation,
        "checks",
        given("checks")
        + "!self.checks.exists(c, c.type == 'ExactMatch') || (has(self.prompts) && has(self.prompts.columns) "
        "&& has(self.prompts.columns.reference))",
        "ExactMatch compares with reference answers; write evaluation.prompts: {url: ..., "
        "columns: {reference: COLUMN}}",
        lambda evaluation: (
            not any(check.type == "ExactMatch" for check in evaluation.checks or ())
            or not _lacks_references(evaluation)
        ),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates")
        + "self.gates.all(g, has(self.checks) ? self.checks.exists(c, c.name == g.check) : g.check == 'win')",
        "a gate names no check; write the name of an entry of evaluation.checks (win, where none is written)",
        lambda evaluation: all(gate.check in _types_of(evaluation) for gate in evaluation.gates or ()),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates")
        + "self.gates.all(g, g.figure != 'gain' || "
        + "(has(self.checks) && self.checks.exists(c, c.name == g.check && c.type == 'ExactMatch')))",
        "a win rate has no gain: it compares with the model as given; write figure: value or low",
        lambda evaluation: all(
            gate.figure != "gain" or _types_of(evaluation).get(gate.check) in (None, "ExactMatch")
            for gate in evaluation.gates or ()
        ),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy")
        + "(has(self.checks) ? self.checks.exists(c, c.name == self.selectBy) : self.selectBy == 'win')",
        "names no check; write the name of an entry of evaluation.checks (win, where none is written)",
        lambda evaluation: evaluation.select_by in (None, *_types_of(evaluation)),
    ),
    Rule(
        Evaluation,
        "selectBy",
        given("selectBy", "when") + "self.when == 'EachIteration'",
        "selectBy compares the rounds, so each of them is evaluated; write when: EachIteration, or remove selectBy",
        lambda evaluation: evaluation.select_by is None or evaluation.when in (None, "EachIteration"),
    ),
    Rule(
        Evaluation,
        "gates",
        given("gates", "when") + "self.when != 'Never' || size(self.gates) == 0",
        "gates need an evaluation; write when: Last or EachIteration, or remove gates",
        lambda evaluation: evaluation.when != "Never" or not evaluation.gates,
    ),
    Rule(
        TrainingCompute,
        "offload",
        given("offload", "zeroStage") + "self.offload != 'OptimizerAndParameters' || self.zeroStage == 3",
        "parameters can be offloaded only with zeroStage: 3; write that, or offload: Optimizer",
        lambda training: training.offload != "OptimizerAndParameters" or training.zero_stage in (None, 3),
    ),
    Rule(
        TrainingCompute,
        "offload",
        given("offload", "zeroStage") + "self.offload == 'None' || self.zeroStage != 0",
        "zeroStage: 0 offloads nothing; write zeroStage: 1, 2 or 3, or offload: None",
        lambda training: training.offload in (None, "None") or training.zero_stage != 0,
    ),
    Rule(
        GenerationCompute,
        "headPodTemplate",
        given("headPodTemplate") + "(has(self.runtime) && self.runtime == 'RayJob')",
        "the pods of a gang are all alike, and only a RayJob's head may differ; write runtime: RayJob beside it, or "
        "podTemplate for all",
        lambda generation: generation.head_pod_template is None or generation.runtime == "RayJob",
    ),
    Rule(
        Compute,
        "training.gpusPerNode",
        given("device", "training.gpusPerNode") + "self.device != 'CPU' || self.training.gpusPerNode == 0",
        "device: CPU has no GPUs; write compute.training.gpusPerNode: 0 or remove it",
        lambda compute: compute.device != "CPU" or compute.training is None or not compute.training.gpus_per_node,
    ),
    Rule(
        FailurePolicy,
        "backoffSeconds",
        "self.backoffSeconds <= self.maxBackoffSeconds",
        "the first wait is longer than the longest; write backoffSeconds at or below maxBackoffSeconds",
        lambda policy: policy.backoff_seconds <= policy.max_backoff_seconds,
    ),
)

RULES: tuple[Rule[Any], ...] = (*RECIPE_RULES, *PLACE_RULES, *GENERATION_RULES, *TRAINING_RULES, *OTHER_RULES)
