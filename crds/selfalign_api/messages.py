"""pydantic's errors in our words: the path as in the file, the value, what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from selfalign_api.base import MapBy
from selfalign_api.errors import ConfigError, Problem, shown

__all__ = ["field_types", "in_our_words", "list_key", "model_in", "path_of"]

_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list; write [...] or lines that begin with -",
    "dict_type": "must be a map; write {field: value}",
    "model_type": "must be a map; write {field: value}",
    "model_attributes_type": "must be a map; write {field: value}",
}
_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "less_than_equal": ("must be at most", "le"),
    "greater_than": ("must be above", "gt"),
    "less_than": ("must be below", "lt"),
}


def in_our_words(error: ValidationError, model: type[BaseModel], data: Any, path: str) -> ConfigError:
    """The ConfigError that says what `error`, raised when `data` was read as `model`, says; `path` is `data`'s own."""
    said = [details for details in error.errors(include_url=False) if not _follows(details)]
    return ConfigError(tuple(_problem(details, model, data, path) for details in said))


def _follows(details: ErrorDetails) -> bool:
    """Whether this only follows from another error: pydantic counts a list's good entries."""
    value, context = details["input"], details.get("ctx", {})
    return details["type"] == "too_short" and isinstance(value, list) and len(value) != context["actual_length"]


def _problem(details: ErrorDetails, model: type[BaseModel], data: Any, path: str) -> Problem:
    location = details["loc"]
    where = path_of(location, model, data, path)
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return Problem(where, None, _missing(location, model))
    if kind == "extra_forbidden":
        return Problem(where, None, _unknown(location, model, path))
    if kind == "json_invalid":  # ours is JSON, so a reader's limit
        deep = "recursion" in details["msg"]
        return Problem(where, None, "the nesting is too deep; write it flatter" if deep else details["msg"])
    if kind == "literal_error":
        return Problem(where, value, _not_one_of(value, context["expected"]))
    if kind == "string_type":
        quoted = "; write it in quotes" if isinstance(value, bool | int | float) else ""
        return Problem(where, value, f"must be text{quoted}")
    if kind == "value_error":  # of a validator of ours, which says it in our words
        return Problem(where, None, str(context["error"]))
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return Problem(where, value, f"{words} {shown(context[name])}")
    if kind == "string_pattern_mismatch":
        return Problem(where, value, f"must match {context['pattern']}")
    return Problem(where, value, _other(kind, value, context, details["msg"]))


def _other(kind: str, value: Any, context: dict[str, Any], said: str) -> str:
    if kind in _TYPES:
        unquoted = kind in ("int_type", "float_type") and isinstance(value, str) and _is_number(value)
        return _TYPES[kind] + ("; write it without quotes" if unquoted else "")
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"must be at most {context['max_length']} characters; it has {len(value)}"
    if kind == "too_long":
        return f"has {context['actual_length']} entries; write at most {context['max_length']}"
    if kind == "too_short":
        return f"has {context['actual_length']} entries; write at least {context['min_length']}"
    return said


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def _not_one_of(value: Any, expected: str) -> str:
    """`expected` is pydantic's: 'a', 'b' or 'c'."""
    values = [part.strip("'") for part in re.split(r", | or ", expected)]
    if len(values) == 1:
        return f"is not {values[0]}; write {values[0]}"
    near = _nearest(str(value), values)
    return f"is not one of {', '.join(values)}" + (f"; did you mean {near}?" if near else "")


def _missing(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    *_, name = location
    field = _fields(model_in(model, location[:-1]))[str(name)]
    return f"is missing; write {name}: {_yaml(field.examples[0])}" if field.examples else "is missing"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return f'"{value}"' if "://" in str(value) else str(value)


def _unknown(location: tuple[int | str, ...], root: type[BaseModel], path: str) -> str:
    name = str(location[-1])
    names = list(_fields(model_in(root, location[:-1])))
    elsewhere = sorted(f"{path}.{found}".lstrip(".") for found in _paths(root) if found.split(".")[-1] == name)
    cutoff = 0.8 if elsewhere else 0.66  # the very name elsewhere is more than one a bit like it
    if near := _nearest(name, names, cutoff):
        return f"no such field; did you mean {near}?"
    if elsewhere:
        return f"no such field here; did you mean {' or '.join(elsewhere)}?"
    return f"no such field; the fields here are {', '.join(names)}"


def _nearest(word: str, words: list[str], cutoff: float = 0.66) -> str | None:
    """The word that was meant: equal but for case, - and _, or close by edits."""
    plain = {re.sub("[-_]", "", other).lower(): other for other in words}
    close = difflib.get_close_matches(re.sub("[-_]", "", word).lower(), plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


# --- the models by path -----------------------------------------------------------------------------------------------


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the name they have in YAML."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def field_types(annotation: Any) -> Iterator[Any]:
    """All types in an annotation, the models and markers in it included."""
    yield annotation
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from field_types(part)


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field, or of the entries of its list."""
    for part in field_types(field.annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def list_key(field: FieldInfo) -> str | None:
    """The key of a list that is a map (`MapBy`)."""
    for part in (*field.metadata, *field_types(field.annotation)):
        if isinstance(part, MapBy):
            return part.key
    return None


def model_in(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that stands at a pydantic location; list indices are passed over."""
    for step in location:
        if isinstance(step, str) and (inner := model_of(_fields(model)[step])) is not None:
            model = inner
    return model


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in _fields(model).items():
        yield prefix + name
        if (inner := model_of(field)) is not None:
            yield from _paths(inner, f"{prefix}{name}.")


def path_of(location: tuple[int | str, ...], model: type[BaseModel], data: Any, path: str) -> str:
    """The dotted path of a location; an entry of a list that is a map stands by its key, `roles[judge]`, else by index."""
    key: str | None = None
    current: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
            label = data.get(key) if key is not None and isinstance(data, dict) else None
            path += f"[{step if label is None else label}]"
            continue
        field = _fields(current).get(step) if current is not None else None
        key = list_key(field) if field is not None else None
        current = model_of(field) if field is not None else None
        data = data.get(step) if isinstance(data, dict) else None
        path += f".{step}"
    return path.lstrip(".") or "(top level)"
