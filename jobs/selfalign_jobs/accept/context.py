"""The context where the run names none: what its roles can need at the most, and no more than the model can hold.

A model's own context is 128 k for many; a KV cache that must have room for one such request refuses GPUs on which the run
would do well. It is part of the method: a record that does not fit is set aside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from selfalign_api.plan import AnyStep, EngineLoad, EngineSettings, Evaluate, Generate, Plan, digest_of
from selfalign_jobs.accept.preflight import ModelSeen
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.places.models import POLICY
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.evaluation import OF_FILE
from selfalign_jobs.recipes.method import Method

SLACK = 16  # one token in so many: a text that is read again may be cut into other tokens than it was written in
ROUNDED = 64


def with_context(resolved: Resolved, models: Mapping[str, ModelSeen], sources: Mapping[str, int]) -> Resolved:
    """The run with a context: its own where it names one, else what is needed, in tokens.

    `models` has how long each role's prompt is with one word for each variable, and what each model can hold; `sources`
    the bytes of each source's longest text, which is at the least the number of its tokens.
    """
    own = tokens_of(resolved.method, models[POLICY], sources)
    engine = resolved.method.engine.model_copy(update={"max_model_tokens": own})
    others = {name: tokens_of(resolved.method, seen, sources) for name, seen in models.items() if name != POLICY}
    steps = tuple(_with_tokens(step, engine, others, resolved.plan) for step in resolved.plan.steps)
    values = resolved.values
    if own is not None:
        values = values | {"generation": values["generation"] | {"maxModelTokens": own}}
    plan = Plan(**dict(resolved.plan) | {"steps": steps, "digest": digest_of(values)})
    return replace(resolved, plan=plan, method=resolved.method.model_copy(update={"engine": engine}), values=values)


def tokens_of(method: Method, seen: ModelSeen, sources: Mapping[str, int]) -> int | None:
    """The context of a model's engine; None where nothing is known of it, and for one that has its own."""
    if seen.conversation is not None:
        return min(scored(method, seen.conversation, sources), seen.context or 1 << 31)
    if seen.embeds:
        longest = longest_texts(method, sources)["prompt"]
        return min(_rounded(longest + longest // 2 + SLACK), seen.context or 1 << 31)
    asked = method.engine.max_model_tokens
    if asked is None and seen.prompts:
        asked = needed(method, seen.prompts, sources)
    return min((tokens for tokens in (asked, seen.context) if tokens is not None and asked is not None), default=None)


def longest_texts(method: Method, sources: Mapping[str, int]) -> dict[str, int]:
    """Tokens of each variable at the most: of answers that are compared, also of those that a file holds."""
    longest = recipe(method.recipe).longest(method, sources)
    given = max((size for name, size in sources.items() if name.startswith(OF_FILE)), default=0)
    return {**longest} | {name: max(longest[name], given) for name in ("first", "second") if given}


def scored(method: Method, fixed: int, sources: Mapping[str, int]) -> int:
    """Tokens of the longest prompt with its answer, as another tokenizer may cut them: half as many again."""
    longest = longest_texts(method, sources)
    others = (tokens for name, tokens in longest.items() if name != "prompt")
    most = fixed + longest["prompt"] + max(others, default=0)
    return _rounded(most + most // 2)


def _with_tokens(step: AnyStep, engine: EngineSettings, others: Mapping[str, int | None], plan: Plan) -> AnyStep:
    """A step with the context of its engine, and of those of helpers, and what is trained from them, where that is another."""
    if not isinstance(step, Generate | Evaluate):
        return step

    def load_of(load: EngineLoad) -> EngineLoad:
        tokens = others.get(plan.origin(load.model))
        return (
            load if tokens in (None, engine.max_model_tokens) else load.model_copy(update={"max_model_tokens": tokens})
        )

    if isinstance(step, Generate):
        update = {"load": load_of(step.load), "then": tuple(map(load_of, step.then))}
    else:
        update = {"loads": tuple(map(load_of, step.loads))}
    return step.model_copy(update=update | {"engine": engine})


def needed(method: Method, prompts: Mapping[str, int], sources: Mapping[str, int]) -> int:
    """Tokens of the longest prompt and answer of any role."""
    found = recipe(method.recipe)
    longest, most = longest_texts(method, sources), 0
    for name, fixed in prompts.items():
        role = method.roles[name]
        answer = max(
            (_tokens(verdict, longest) + len(verdict.encode()) for verdict in method.judge.verdicts), default=0
        )
        room = max(role.max_tokens, answer) if name == "judge" else role.max_tokens
        shown = sum(longest[each] for each in found.required[name]) if role.template is None else 0
        most = max(most, fixed + shown + _tokens(role.template or "", longest) + room)
    return _rounded(most + most // SLACK)


def _rounded(tokens: int) -> int:
    return -(-tokens // ROUNDED) * ROUNDED


def _tokens(template: str, longest: Mapping[str, int]) -> int:
    """Tokens of the variables of a template, as often as it names them."""
    named = " ".join(re.findall(r"\{[{%].*?[%}]\}", template, re.DOTALL))
    return sum(len(re.findall(rf"\b{name}\b", named)) * tokens for name, tokens in longest.items())
