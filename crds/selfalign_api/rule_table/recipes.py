"""Rules of recipes: which data each reads and needs, and options of its own."""

from __future__ import annotations

import re
from typing import Any

from selfalign_api.method import Source
from selfalign_api.rule_table.rule import Rule, given
from selfalign_api.run import SelfAlignmentRun, Spec


def _has_url(source: Source | None) -> bool:
    return source is not None and source.url is not None


# Which recipes read a kind of data, and which need it; a recipe says the same of itself (Recipe.data), and a test holds both.
READ_BY = {
    "personas": ("sao",),
    "prompts": ("sao", "fspo", "almost", "reversegen"),
    "users": ("fspo",),
    "demonstrations": ("spin", "synpo", "almost"),
    "preferences": ("pairs", "selm", "fspo", "pit"),
    "corpus": ("synpo",),
}
NEEDED_BY = {
    "prompts": ("almost", "reversegen"),
    "demonstrations": ("spin", "synpo"),
    "preferences": ("pairs", "selm", "pit"),
    "corpus": ("synpo",),
}


def _source(spec: Spec, kind: str) -> Source | None:
    source: Source | None = getattr(spec.data, kind, None)
    return source


def listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(repr(name) for name in names)}]"


def _read_by(kind: str, recipes: tuple[str, ...]) -> Rule[Spec]:
    return Rule(
        Spec,
        f"data.{kind}",
        given(f"data.{kind}") + f"self.recipe in {listed(recipes)}",
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
    *(_options_of(recipe) for recipe in ("sao", "selm", "synpo", "fspo", "almost", "reversegen", "pit")),
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
