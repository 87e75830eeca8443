"""Whether a run keeps the rules over several fields (rule_table/)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from selfalign_api.base import ApiModel
from selfalign_api.engine_args import engine_arg_problems
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.messages import list_key
from selfalign_api.rule_table import RULES, Rule
from selfalign_api.run import SelfAlignmentRun

__all__ = ["broken_rules", "check_rules", "rules_of"]


def rules_of(model: type[BaseModel]) -> tuple[Rule[Any], ...]:
    """The rules that hold for one type, in the order of the table."""
    return tuple(rule for rule in RULES if rule.on is model)


def check_rules(run: SelfAlignmentRun) -> None:
    """Raise a ConfigError with every rule that the run breaks on one machine, and every engine argument we own."""
    problems = [*broken_rules(run, "", here=True), *engine_arg_problems(run.spec.compute)]
    if problems:
        raise ConfigError(problems)


def broken_rules(part: ApiModel, path: str, *, here: bool = False) -> list[Problem]:
    """Every rule that a part of a run, which stands at `path`, breaks on a cluster, or `here` on one machine."""
    return [
        Problem(f"{where}.{rule.field}".strip("."), _value_at(node, rule.field), _words(rule, node))
        for where, node in _nodes(part, path)
        for rule in rules_of(type(node))
        if not (rule.holds(node) or (here and rule.here is not None and rule.here(node)))
    ]


def _nodes(node: ApiModel, path: str) -> Iterator[tuple[str, ApiModel]]:
    """Every model in the run with its path, in the order of the schema."""
    yield path, node
    for name, field in type(node).model_fields.items():
        value = getattr(node, name)
        inner = f"{path}.{field.alias}".lstrip(".")
        if isinstance(value, ApiModel):
            yield from _nodes(value, inner)
        elif isinstance(value, tuple):
            key = list_key(field)
            for index, entry in enumerate(value):
                if isinstance(entry, ApiModel):
                    label = index if key is None else entry.model_dump(mode="json")[key]
                    yield from _nodes(entry, f"{inner}[{label}]")


def _words(rule: Rule[Any], node: ApiModel) -> str:
    meant = rule.meant(node)
    return rule.message if meant is None else f"did you mean {meant}? {rule.message}"


def _value_at(node: ApiModel, field: str) -> Any:
    value: Any = node.model_dump(mode="json", exclude_none=True)
    for step in field.split(".") if field else ():
        value = value.get(step) if isinstance(value, dict) else None
    return value
