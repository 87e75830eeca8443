"""Jinja templates of roles and verdicts, rendered in a sandbox: a run file is anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)


@lru_cache(maxsize=256)
def _compiled(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """A role's or verdict's template with its variables; `jinja2.UndefinedError` for one that is not there."""
    return _compiled(template).render(variables)
