"""What can be known to be wrong before an engine or Ray starts: templates, verdicts, sampling, tables, the model's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfalign_api.errors import ConfigError, Problem, refused_as
from selfalign_api.plan import Judge, Plan, SourceRef, prepares_of
from selfalign_jobs.places.models import GivenModel
from selfalign_jobs.places.sources import open_source
from selfalign_jobs.recipes.base import Recipe, recipe
from selfalign_jobs.recipes.method import Method

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length")


def check(plan: Plan, method: Method, model: GivenModel, mounts: Mapping[str, str]) -> dict[str, int]:
    """How many rows each source has. Raises ConfigError with every problem found."""
    found = recipe(method.recipe)
    said = [*_templates(found, method), *_verdicts(method.judge)]
    files = list(_model_files(model, has_template=plan.models["policy"].chat_template is not None))
    if "config.json" in model.names:
        said += _room(model.folder, method)
    if said or files:
        with refused_as("InvalidSpec" if said else "ModelNotFound"):
            raise ConfigError([*said, *files])
    return _tables(plan, found, mounts)


def _templates(found: Recipe, method: Method) -> Iterator[Problem]:
    for name, role in method.roles.items():
        if role.template is None:
            continue
        path = f"spec.generation.roles[{name}].template"
        needed = found.required[name] - ({"persona"} if method.options.get("prompt_mode") == "Free" else frozenset())
        yield from _one_template(path, role.template, found.variables[name], needed)
    for number, verdict in enumerate(method.judge.verdicts):
        yield from _one_template(f"spec.judge.verdicts[{number}]", verdict, found.variables["judge"], frozenset())


def _one_template(path: str, text: str, known: frozenset[str], needed: frozenset[str]) -> Iterator[Problem]:
    try:
        named = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(text))
    except jinja2.TemplateSyntaxError as error:
        yield Problem(path, None, f"line {error.lineno} is not Jinja: {error.message}")
        return
    for variable in sorted(named - known):
        yield Problem(path, None, f"{variable} is no variable of this template; use {', '.join(sorted(known))}")
    for variable in sorted(needed - named):
        yield Problem(path, None, f"the template leaves out {variable}; write {{{{ {variable} }}}} where it belongs")


def _verdicts(judge: Judge) -> Iterator[Problem]:
    """What the two candidate verdicts come to; in the sandbox that they are rendered in later: a run file is anybody's."""
    known = {"prompt": "prompt", "first": "one", "second": "two", "criteria": judge.criteria}
    path, environment = "spec.judge.verdicts", ImmutableSandboxedEnvironment()
    try:
        first, second = (environment.from_string(verdict).render(known) for verdict in judge.verdicts)
    except jinja2.TemplateSyntaxError:
        return  # `_templates` says where
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        yield Problem(
            path,
            None,
            f"cannot be rendered: {error}; write text and {', '.join(f'{{{{ {name} }}}}' for name in known)}",
        )
        return
    if first == second:
        yield Problem(
            path, None, f"the two candidate verdicts are equal ({first}); write two that differ, one for each answer"
        )


def _model_files(model: GivenModel, *, has_template: bool) -> Iterator[Problem]:
    path, url = "spec.model.url", model.url
    if "config.json" not in model.names:
        yield Problem(path, url, "has no config.json; write the URL of a folder that save_pretrained made")
        return
    if not any(name.endswith(".safetensors") for name in model.names):
        yield Problem(path, url, "has no *.safetensors; write the URL of a folder that save_pretrained made")
    if not {"tokenizer.json", "tokenizer_config.json"} & set(model.names):
        yield Problem(path, url, "has no tokenizer; save it there with tokenizer.save_pretrained")
    elif not has_template and not _chat_template(model.folder):
        yield Problem(path, url, "has no chat template; write model.chatTemplateUrl, or take an instruct model")


def _room(folder: Path, method: Method) -> Iterator[Problem]:
    """Roles that may write more than the model can hold."""
    config = json.loads((folder / "config.json").read_text())
    context = method.engine.max_model_tokens or next((config[key] for key in CONTEXT_KEYS if key in config), None)
    for name, role in method.roles.items():
        if context is not None and role.max_tokens >= context:
            yield Problem(
                f"spec.generation.roles[{name}].maxTokens",
                role.max_tokens,
                f"is beyond the context of {context} tokens; write less, so that the prompt has room",
            )


def _chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").exists():
        return True
    config = folder / "tokenizer_config.json"
    return config.exists() and bool(json.loads(config.read_text()).get("chat_template"))


def _tables(plan: Plan, found: Recipe, mounts: Mapping[str, str]) -> dict[str, int]:
    """Read each source once, and run every whole-table function that needs nothing but sources."""
    with refused_as("DataNotFound"):
        sources = {name: open_source(name, source, mounts) for name, source in plan.sources.items()}
    for step in plan.steps:
        for prepare in prepares_of(step):
            if all(isinstance(ref, SourceRef) for ref in prepare.inputs):
                rows = [sources[ref.name] for ref in prepare.inputs]
                counted = prepare.fn in found.takes_rows
                inputs = tuple(each.counted if counted else each.read() for each in rows)
                found.prepares[prepare.fn](inputs, prepare.options)
    return {name: source.num_rows for name, source in sources.items()}
