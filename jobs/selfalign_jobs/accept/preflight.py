"""What can be known to be wrong before an engine or Ray starts; one file of this room for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Evaluate, Generate, Plan, Role, SourceRef, Train, prepares_of
from selfalign_api.run import Spec
from selfalign_api.run_file import GenerationMeans, Means
from selfalign_api.sources import ModelSource
from selfalign_jobs.accept.architecture import architecture_problems, code_problems, quantised_problems, text_config
from selfalign_jobs.accept.chat import look_at_chat
from selfalign_jobs.accept.given_answers import answers_notes
from selfalign_jobs.accept.held_out import held_out_notes, refuse_equal_ids
from selfalign_jobs.accept.model_files import file_problems, json_of
from selfalign_jobs.accept.prompts import template_problems, verdict_problems
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.accept.room import card_problems, context_problems, model_context, prompt_problems, role_problems
from selfalign_jobs.accept.scorers import (
    conversation_tokens,
    embedder_context,
    embedder_problems,
    head_problems,
    ranker_problems,
)
from selfalign_jobs.accept.training import lora_problems, training_problems
from selfalign_jobs.accept.weights import embedding_rows, parameters_of, read_weights, weight_problems
from selfalign_jobs.machine import gpu_memory_here
from selfalign_jobs.places.models import POLICY, GivenModel
from selfalign_jobs.places.source_rows import SourceRows
from selfalign_jobs.places.sources import open_source
from selfalign_jobs.recipes.base import PrepareDef, Recipe, Rows, recipe


@dataclass
class ModelSeen:
    """What was learned of a model."""

    problems: list[Problem]
    notes: list[str] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)  # tokens of each role's prompt, one word for each variable
    context: int | None = None  # tokens that it can hold, where its config says so
    conversation: int | None = None  # of a reward model: tokens of prompt and answer, with one word for each
    embeds: bool = False  # it reads prompts alone, of a long one the beginning


@dataclass(frozen=True)
class Seen:
    """What was learned of a run that may start."""

    rows: dict[str, int]  # of each source
    longest: dict[str, int]  # bytes of each source's longest text
    models: dict[str, ModelSeen]  # by lineage
    notes: list[str]  # what of the models and the tables deserves a second look


def check(resolved: Resolved, spec: Spec, means: Means, mounts: Mapping[str, str]) -> Seen:
    """Look at all that a run names. Raises ConfigError with every problem found."""
    found = recipe(resolved.method.recipe)
    problems = [
        *template_problems(found, resolved.method),
        *verdict_problems(resolved.method.judge),
        *training_problems(resolved.plan, means.training),
    ]
    models = {
        name: _model(resolved, name, roles_of(resolved, name), found, spec, means.generation.of(name))
        if resolved.plan.models[name].kind == "Causal"
        else _scorer(resolved.models[name], resolved.plan.models[name])
        for name in resolved.models
    }
    problems += [problem for model in models.values() for problem in model.problems]
    if problems:
        of_folder = all(problem.path in {model.field for model in resolved.models.values()} for problem in problems)
        with refused_as("ModelNotFound" if of_folder else "InvalidSpec"):
            raise ConfigError(problems)
    sources = _tables(resolved.plan, found, mounts)
    with refused_as("DataNotFound"):
        refuse_equal_ids(sources)
    return Seen(
        rows={name: source.num_rows for name, source in sources.items()},
        longest={name: source.longest for name, source in sources.items()},
        models=models,
        notes=[
            *(note for model in models.values() for note in model.notes),
            *dict.fromkeys(held_out_notes(resolved.plan, found, sources)),
            *answers_notes(sources),
        ],
    )


def roles_of(resolved: Resolved, lineage: str) -> dict[str, Role]:
    """The roles of the recipe that a model plays: one that nobody asks needs no room."""
    plan = resolved.plan
    loads = [load for step in plan.steps if isinstance(step, Generate | Evaluate) for load in step.loads]
    own = [load for load in loads if plan.origin(load.model) == lineage]  # and what was trained from it
    played = {name for load in own for job in load.jobs for name in job.roles}
    if played - resolved.method.roles.keys():  # at a temperature of its own
        played.add("respond")
    return {name: role for name, role in resolved.method.roles.items() if name in played}


def fallback_of(resolved: Resolved, lineage: str) -> str | None:
    """The chat template that a model is shown where it has none of its own: what all of its loads have."""
    steps = (step for step in resolved.plan.steps if isinstance(step, Generate | Evaluate))
    found = {load.chat_template for step in steps for load in step.loads if load.model.lineage == lineage}
    return found.pop() if len(found) == 1 else None


def _model(
    resolved: Resolved,
    lineage: str,
    roles: Mapping[str, Role],
    found: Recipe,
    spec: Spec,
    engine: GenerationMeans,
) -> ModelSeen:
    """What is wrong with a model, from its listing inwards: what lies deeper is looked at once the outer is right."""
    plan, model, given = resolved.plan, resolved.models[lineage], resolved.plan.models[lineage]
    trained = any(isinstance(step, Train) and plan.origin(step.start) == lineage for step in plan.steps)
    method = resolved.method.model_copy(update={"roles": roles})
    if problems := list(file_problems(model)):
        return ModelSeen(problems)
    config = json_of(model, "config.json")
    text = text_config(config)
    problems += code_problems(model, config, allowed=given.remote_code)
    problems += architecture_problems(model, config, allowed=given.remote_code, trained=trained)
    if lineage == POLICY:
        problems += context_problems(text, method, spec)
    problems += role_problems(text, method)
    try:
        tensors = read_weights(model)
    except ConfigError as error:
        return ModelSeen([*problems, *error.problems])
    if quantised := list(quantised_problems(model, config, tensors, trained=trained)):
        return ModelSeen([*problems, *quantised])
    problems += weight_problems(model, tensors, text)
    if trained:
        problems += lora_problems(resolved.plan, tensors)
    talk = look_at_chat(given, model, embedding_rows(tensors), found, method, fallback_of(resolved, lineage))
    problems += talk.problems
    problems += prompt_problems(text, method, talk.prompts)
    longest = max((tokens + method.roles[name].max_tokens for name, tokens in talk.prompts.items()), default=0)
    tokens = method.engine.max_model_tokens or longest
    problems += card_problems(text, method, engine, parameters_of(tensors), tokens, gpu_memory_here())
    return ModelSeen(problems, talk.notes, talk.prompts, model_context(text))


def _scorer(model: GivenModel, given: ModelSource) -> ModelSeen:
    """What is wrong with a model that scores."""
    if problems := list(file_problems(model)):
        return ModelSeen(problems)
    config = json_of(model, "config.json")
    problems += code_problems(model, config, allowed=given.remote_code)
    try:
        tensors = read_weights(model)
    except ConfigError as error:
        return ModelSeen([*problems, *error.problems])
    if quantised := list(quantised_problems(model, config, tensors, trained=False)):
        return ModelSeen([*problems, *quantised])
    if given.kind == "PairRanker":
        return ModelSeen([*problems, *ranker_problems(model, tensors)])
    if given.kind == "Embedder":
        return ModelSeen([*problems, *embedder_problems(model, config)], context=embedder_context(model), embeds=True)
    problems += head_problems(model, given, config, tensors)
    text = text_config(config)
    problems += weight_problems(model, tensors, {**text, "tie_word_embeddings": None})  # it has another head
    tokens = conversation_tokens(model, given)
    if isinstance(tokens, list):
        return ModelSeen([*problems, *tokens])
    return ModelSeen(problems, context=model_context(text), conversation=tokens)


def _tables(plan: Plan, found: Recipe, mounts: Mapping[str, str]) -> dict[str, SourceRows]:
    """Read each source once, and run every whole-table function that needs nothing but sources."""
    with refused_as("DataNotFound"):
        sources = {name: open_source(name, source, mounts) for name, source in plan.sources.items()}
    for step in plan.steps:
        for prepare in prepares_of(step):
            if all(isinstance(ref, SourceRef) for ref in prepare.inputs):
                made = found.prepares[prepare.fn]
                inputs = tuple(_given(sources[ref.name], made) for ref in prepare.inputs)
                (made.looked_at or made.run)(inputs, prepare.options)
    return sources


def _given(rows: SourceRows, made: PrepareDef) -> Rows | pa.Table:
    """A source as a function is given it here: only counted where that is all that can be wrong."""
    if not made.takes_rows:
        return rows.read()
    return rows if made.looks else rows.counted
