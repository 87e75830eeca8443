"""The texts that a run writes itself: templates of roles and verdicts, and what they come to with a sample row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jinja2
import jinja2.meta

from selfalign_api.errors import Problem
from selfalign_api.plan import Judge
from selfalign_jobs.recipes.base import Recipe
from selfalign_jobs.recipes.few_shot import sample_shots
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.template import render_template


def template_problems(found: Recipe, method: Method) -> Iterator[Problem]:
    """Templates that are no Jinja, name what is not there, or leave out what must be there."""
    for name, role in method.roles.items():
        if role.template is None:
            continue
        path = template_field(name)
        needed = found.required[name] - found.spared(method)
        yield from _one_template(path, role.template, found.variables[name], needed)
    for number, verdict in enumerate(method.judge.verdicts):
        yield from _one_template(f"spec.judge.verdicts[{number}]", verdict, found.variables["judge"], frozenset())


def template_field(role: str) -> str:
    """Where a role's template stands in a run file."""
    return f"spec.generation.roles[{role}].template"


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


def sample_turns(found: Recipe, method: Method) -> dict[str, str | Problem]:
    """Each role's user turn, with one word for each variable; what is wrong where it cannot be rendered."""
    return {name: _turn(name, role.template, found, method) for name, role in method.roles.items()}


def _turn(name: str, template: str | None, found: Recipe, method: Method) -> str | Problem:
    words: Mapping[str, object] = dict.fromkeys(found.variables[name], "word") | {
        "criteria": method.judge.criteria,
        "shots": sample_shots(1),
    }
    if template is None:
        return "word"
    try:
        return render_template(template, words)
    except Exception as error:  # whatever a template does with its variables
        return Problem(
            template_field(name), None, f"cannot be rendered: {error or type(error).__name__}; mend it there"
        )


def verdict_problems(judge: Judge) -> Iterator[Problem]:
    """What the two candidate verdicts come to; in the sandbox that they are rendered in later: a run file is anybody's."""
    known = {"prompt": "prompt", "first": "one", "second": "two", "criteria": judge.criteria}
    path = "spec.judge.verdicts"
    try:
        first, second = (render_template(verdict, known) for verdict in judge.verdicts)
    except (jinja2.TemplateSyntaxError, jinja2.UndefinedError):
        return  # `template_problems` says where
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        names = ", ".join(f"{{{{ {name} }}}}" for name in known)
        yield Problem(path, None, f"cannot be rendered: {error}; write text and {names}")
        return
    if first == second:
        message = f"the two candidate verdicts are equal ({first}); write two that differ, one for each answer"
        yield Problem(path, None, message)
