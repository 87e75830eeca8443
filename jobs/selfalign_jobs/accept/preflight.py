"""What can be known to be wrong before an engine or Ray starts; one file of this room for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Evaluate, Generate, Plan, SourceRef, prepares_of
from selfalign_api.run import Spec
from selfalign_api.run_file import GenerationMeans, Means
from selfalign_jobs.accept.architecture import architecture_problems, code_problems, quantised_problems, text_config
from selfalign_jobs.accept.chat import look_at_chat
from selfalign_jobs.accept.held_out import held_out_notes
from selfalign_jobs.accept.model_files import file_problems, json_of
from selfalign_jobs.accept.prompts import template_problems, verdict_problems
from selfalign_jobs.accept.resolve import Resolved
from selfalign_jobs.accept.room import card_problems, context_problems, model_context, prompt_problems
from selfalign_jobs.accept.training import lora_problems, training_problems
from selfalign_jobs.accept.weights import embedding_rows, parameters_of, read_weights, weight_problems
from selfalign_jobs.machine import gpu_memory_here
from selfalign_jobs.places.models import FIELD
from selfalign_jobs.places.source_rows import SourceRows
from selfalign_jobs.places.sources import open_source
from selfalign_jobs.recipes.base import Recipe, Rows, recipe
from selfalign_jobs.recipes.method import Method


@dataclass(frozen=True)
class Seen:
    """What was learned of a run that may start."""

    rows: dict[str, int]  # of each source
    longest: dict[str, int]  # bytes of each source's longest text
    prompts: dict[str, int]  # tokens of each role's prompt, with one word for each variable
    context: int | None  # tokens that the model can hold, where its config says so
    notes: list[str]  # what of the model and the tables deserves a second look


def check(resolved: Resolved, spec: Spec, means: Means, mounts: Mapping[str, str]) -> Seen:
    """Look at all that a run names. Raises ConfigError with every problem found."""
    found = recipe(resolved.method.recipe)
    problems = [
        *template_problems(found, resolved.method),
        *verdict_problems(resolved.method.judge),
        *training_problems(resolved.plan, means.training),
    ]
    model = _model(resolved, found, spec, means.generation)
    problems += model.problems
    if problems:
        of_folder = all(problem.path == FIELD for problem in problems)
        with refused_as("ModelNotFound" if of_folder else "InvalidSpec"):
            raise ConfigError(problems)
    sources = _tables(resolved.plan, found, mounts)
    return Seen(
        rows={name: source.num_rows for name, source in sources.items()},
        longest={name: source.longest for name, source in sources.items()},
        prompts=model.prompts,
        context=model.context,
        notes=[*model.notes, *dict.fromkeys(held_out_notes(resolved.plan, found, sources))],
    )


@dataclass
class _Model:
    """What was learned of the model."""

    problems: list[Problem]
    notes: list[str] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)
    context: int | None = None


def _model(resolved: Resolved, found: Recipe, spec: Spec, engine: GenerationMeans) -> _Model:
    """What is wrong with the model, from its listing inwards: what lies deeper is looked at once the outer is right."""
    model, method, given = resolved.model, _asked(resolved), resolved.plan.models["policy"]
    if problems := list(file_problems(model)):
        return _Model(problems)
    config = json_of(model, "config.json")
    text = text_config(config)
    problems += code_problems(model, config, allowed=given.remote_code)
    problems += architecture_problems(model, config, allowed=given.remote_code)
    problems += context_problems(text, method, spec)
    try:
        tensors = read_weights(model)
    except ConfigError as error:
        return _Model([*problems, *error.problems])
    if quantised := list(quantised_problems(model, config, tensors)):
        return _Model([*problems, *quantised])
    problems += weight_problems(model, tensors, text)
    problems += lora_problems(resolved.plan, tensors)
    talk = look_at_chat(given, model, embedding_rows(tensors), found, method)
    problems += talk.problems
    problems += prompt_problems(text, method, talk.prompts)
    longest = max((tokens + method.roles[name].max_tokens for name, tokens in talk.prompts.items()), default=0)
    tokens = method.engine.max_model_tokens or longest
    problems += card_problems(text, method, engine, parameters_of(tensors), tokens, gpu_memory_here())
    return _Model(problems, talk.notes, talk.prompts, model_context(text))


def _asked(resolved: Resolved) -> Method:
    """The method with the roles that some flow of the plan asks: a judge that nobody asks needs no room."""
    loads = [load for step in resolved.plan.steps if isinstance(step, Generate | Evaluate) for load in step.loads]
    asked = {name for load in loads for job in load.jobs for name in job.roles}
    asked |= (
        {"respond"} if any(name not in resolved.method.roles for name in asked) else set()
    )  # at a temperature of its own
    roles = {name: role for name, role in resolved.method.roles.items() if name in asked}
    return resolved.method.model_copy(update={"roles": roles})


def _tables(plan: Plan, found: Recipe, mounts: Mapping[str, str]) -> dict[str, SourceRows]:
    """Read each source once, and run every whole-table function that needs nothing but sources."""
    with refused_as("DataNotFound"):
        sources = {name: open_source(name, source, mounts) for name, source in plan.sources.items()}
    for step in plan.steps:
        for prepare in prepares_of(step):
            if all(isinstance(ref, SourceRef) for ref in prepare.inputs):
                rows = [sources[ref.name] for ref in prepare.inputs]
                inputs = tuple(_given(each, prepare.fn, found) for each in rows)
                found.prepares[prepare.fn](inputs, prepare.options)
    return sources


def _given(rows: SourceRows, fn: str, found: Recipe) -> Rows | pa.Table:
    """A source as a function is given it here: only counted where that is all that can be wrong."""
    if fn not in found.takes_rows:
        return rows.read()
    return rows if fn in found.looks else rows.counted
