"""The rules about a change of the spec: what a run computes is fixed, where it runs changes only while it is suspended.

On a cluster the CRD holds them. In Python they say what the API server would, with the same messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfalign_api.base import ApiModel
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.messages import list_key
from selfalign_api.plan import digest_of
from selfalign_api.plan_values import Json
from selfalign_api.run import METHOD_FIELDS, Spec

__all__ = ["TRANSITION_RULES", "TransitionRule", "check_transition"]


@dataclass(frozen=True)
class TransitionRule:
    """What must hold between the spec as it was and as it becomes; `field` is the path that the error names."""

    field: str
    cel: str
    message: str
    holds: Callable[[Spec, Spec], bool]


def check_transition(old: Spec, new: Spec) -> None:
    """Raise a ConfigError with every rule that the change from `old` to `new` breaks."""
    broken = [rule for rule in TRANSITION_RULES if not rule.holds(old, new)]
    if broken:
        raise ConfigError([Problem(f"spec.{rule.field}", None, rule.message) for rule in broken])


def _unchanged(field: str) -> str:
    """The CEL for "as it was": set in both and equal, or set in neither."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


def _is_unchanged(field: str) -> Callable[[Spec, Spec], bool]:
    return lambda old, new: _identity(old, field) == _identity(new, field)


def _identity(spec: Spec, field: str) -> str:
    return digest_of(_plain(spec).get(field))


def _plain(model: ApiModel) -> dict[str, Json]:
    """What was given, as JSON; a list that is a map has no order."""
    plain: dict[str, Json] = {}
    for name in model.model_fields_set:
        field = type(model).model_fields[name]
        value: Any = getattr(model, name)
        if value is None:
            continue
        if isinstance(value, ApiModel):
            value = _plain(value)
        elif isinstance(value, tuple):
            entries = [_plain(entry) if isinstance(entry, ApiModel) else entry for entry in value]
            key = list_key(field)
            value = entries if key is None else {str(entry[key]): entry for entry in entries}
        plain[field.alias or name] = value
    return plain


METHOD_RULES = tuple(
    TransitionRule(
        field,
        _unchanged(field),
        "what a run computes is fixed; write the change in a run with another name, and storage.reuseFrom: "
        "[URL OF THIS RUN] there so that no finished step is done again",
        _is_unchanged(field),
    )
    for field in METHOD_FIELDS
)
COMPUTE_RULE = TransitionRule(
    "compute",
    f"self.suspend || oldSelf.suspend || ({_unchanged('compute')})",
    "compute may change only while the run is suspended; write suspend: true first, or change it in the write that "
    "sets suspend: false",
    lambda old, new: new.suspend or old.suspend or _is_unchanged("compute")(old, new),
)
TRANSITION_RULES = (*METHOD_RULES, COMPUTE_RULE)
