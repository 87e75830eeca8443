"""The context where the run names none: what its roles can need at the most, and no more than the model can hold.

A model's own context is 128 k for many; a KV cache that must have room for one such request refuses GPUs on which the run
would do well. It is part of the method: a record that does not fit is set aside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from selfalign_api.plan import Evaluate, Generate, Plan, digest_of
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.method import Method

SLACK = 16  # one token in so many: a text that is read again may be cut into other tokens than it was written in
ROUNDED = 64


def with_context(
    resolved: Resolved, prompts: Mapping[str, int], sources: Mapping[str, int], own: int | None
) -> Resolved:
    """The run with a context: its own where it names one, else what is needed, in tokens.

    `prompts` is how long each role's prompt is with one word for each variable; `sources` has the bytes of each source's
    longest text, which is at the least the number of its tokens; `own` is what the model can hold.
    """
    if resolved.method.engine.max_model_tokens is not None or not prompts:
        return resolved
    tokens = min(needed(resolved.method, prompts, sources), own or 1 << 31)
    engine = resolved.method.engine.model_copy(update={"max_model_tokens": tokens})
    values = resolved.values | {"generation": resolved.values["generation"] | {"maxModelTokens": tokens}}
    steps = tuple(
        step.model_copy(update={"engine": engine}) if isinstance(step, Generate | Evaluate) else step
        for step in resolved.plan.steps
    )
    plan = Plan(**dict(resolved.plan) | {"steps": steps, "digest": digest_of(values)})
    return replace(resolved, plan=plan, method=resolved.method.model_copy(update={"engine": engine}), values=values)


def needed(method: Method, prompts: Mapping[str, int], sources: Mapping[str, int]) -> int:
    """Tokens of the longest prompt and answer of any role."""
    longest = recipe(method.recipe).longest(method, sources)
    most = 0
    for name, fixed in prompts.items():
        role = method.roles[name]
        answer = max(
            (_tokens(verdict, longest) + len(verdict.encode()) for verdict in method.judge.verdicts), default=0
        )
        room = max(role.max_tokens, answer) if name == "judge" else role.max_tokens
        most = max(most, fixed + _tokens(role.template, longest) + room)
    return -(-(most + most // SLACK) // ROUNDED) * ROUNDED


def _tokens(template: str | None, longest: Mapping[str, int]) -> int:
    """Tokens of the variables of a template, as often as it names them; without one the prompt is the user's turn."""
    if template is None:
        return longest["prompt"]
    named = " ".join(re.findall(r"\{[{%].*?[%}]\}", template, re.DOTALL))
    return sum(len(re.findall(rf"\b{name}\b", named)) * tokens for name, tokens in longest.items())
