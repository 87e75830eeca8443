"""Chat templates as transformers renders them, without importing it: it brings torch, which takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfalign_api.plan_values import Json

DEFAULT = "default"  # which of several templates is rendered
# Set by us or by the tokenizer, whatever a run says.
OWN_VARIABLES = ("messages", "tools", "documents", "add_generation_prompt")


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what an assistant wrote; here it renders as what stands inside."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _tojson
    now: Callable[[str], str] = lambda form: datetime.now().strftime(form)  # noqa: E731
    made.globals |= {"raise_exception": _raise, "strftime_now": now}
    return made


_ENVIRONMENT = _environment()


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render_chat(template: str, messages: Sequence[Mapping[str, Json]], variables: Mapping[str, Any]) -> str:
    """The prompt of a conversation: all turns, and the beginning of the assistant's next (unless `variables` say otherwise).

    Raises what a template raises: `jinja2.TemplateError`, and any error of Python's for what it does with its variables.
    """
    said = {"tools": None, "documents": None, "add_generation_prompt": True} | dict(variables)
    return _compiled(template).render(said, messages=messages)


def variables_of(template: str) -> frozenset[str]:
    """The variables that a template reads; `jinja2.TemplateSyntaxError` for one that is none."""
    return frozenset(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(template)))
