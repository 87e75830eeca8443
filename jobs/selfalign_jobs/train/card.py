"""The card beside a trained model: what it is, how it was made, from what."""

from __future__ import annotations

import json
from collections.abc import Sequence

from selfalign_api.places import HubModel, parse_place
from selfalign_api.plan import ArtifactRef, Plan, SourceRef, Train
from selfalign_api.training_values import Lora
from selfalign_jobs.recipes.tables import learned_from


def card(plan: Plan, step: Train, log: Sequence[dict[str, float]], examples: int, *, adapter: bool) -> str:
    """Markdown with the front matter that a model hub reads; the lineage names digests, not places.

    Of the whole model, or of its adapter alone.
    """
    source = plan.given(step.start)
    last = log[-1] if log else {}
    settings, loss, word = step.settings, step.loss, step.rows
    rows = {
        "recipe": f"{plan.recipe}, iteration {step.iteration}, selfalign {plan.version}",
        "run": f"{plan.namespace}/{plan.name}, method {plan.digest}",
        "step": f"{step.name}, {plan.step_digest(step.name)}",
        "given model": source.digest or "unknown",
        "trained from": f"{step.start.lineage}, iteration {step.start.iteration}",
        "reference": f"{step.reference.lineage}, iteration {step.reference.iteration}" if step.reference else "none",
        word: str(examples),
        "loss": ", ".join([loss.type, *(f"{letter} {value:g}" for letter, value in loss.constants.items())]),
        "optimiser": f"{settings.optimizer.type}, learning rate {settings.learning_rate:g} "
        f"({settings.learning_rate_schedule}, warm-up {settings.warmup_ratio:g})",
        "steps": f"{len(log)} of {settings.global_batch_size} {word}, {settings.epochs:g} epochs, seed {settings.seed}",
        "adapter": f"{_kind(settings.lora)}; {'alone' if adapter else 'merged here, alone in adapter/'}"
        if settings.lora
        else "none",
        "last step": ", ".join(f"{name} {last[name]:.4f}" for name in ("loss", "margin", "accuracy") if name in last)
        if last
        else "none",
    }
    if source.chat_template_kwargs:
        rows["chat template variables"] = (
            f"`{json.dumps(source.chat_template_kwargs, ensure_ascii=False)}`; give them too"
        )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
{_library(source.url, adapter)}
pipeline_tag: {"text-classification" if step.objective in ("reward", "gap") else "text-generation"}
tags: [selfalign, {plan.recipe}, {loss.type}]
---
# {plan.name}

A model trained by selfalign on {word}: {_made_by(plan, step)}.

| | |
|---|---|
{table}
{_prompting(step)}"""


def _prompting(step: Train) -> str:
    """Of a model that is shown what a person prefers: how, as a Jinja template of the user's turn."""
    if "turn" not in step.data.options:
        return ""
    described = (
        "It first says what the person is like; the answer follows its heading.\n"
        if step.data.options["describe"]
        else ""
    )
    return f"""
## How to prompt it

It answers a person whose pairs of answers it is shown: the user's turn is this Jinja template, with `shots`, a list of maps
of `prompt`, `chosen` and `rejected` ({step.data.options["shots"]} in training), and `prompt`, the question.
{described}
```jinja
{step.data.options["turn"]}
```
"""


def _made_by(plan: Plan, step: Train) -> str:
    """Whose rows they are: those of the run's own steps, or tables that it was given."""
    own = [ref.step for ref in learned_from(step.data) if isinstance(ref, ArtifactRef)]
    given = [ref.name for ref in learned_from(step.data) if isinstance(ref, SourceRef)]
    parts = [f"made by {', '.join(own)} of recipe {plan.recipe}"] if own else []
    return " and ".join([*parts, *([f"given as {', '.join(given)}"] if given else [])])


def _library(url: str, adapter: bool) -> str:
    """What loads it; of an adapter also the repository that it sits on, where the hub has that."""
    if not adapter:
        return "library_name: transformers"
    base = parse_place(url)
    return "library_name: peft" + (f"\nbase_model: {base.repo}" if isinstance(base, HubModel) else "")


def _kind(lora: Lora) -> str:
    """The adapter in words."""
    name = "DoRA" if lora.dora else "LoRA"
    scale = f"{lora.alpha:g}/{'√' if lora.rank_stabilized else ''}{lora.rank}"
    return f"{name}, rank {lora.rank}, scale {scale}"
