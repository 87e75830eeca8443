"""YAML as kubectl reads it, into plain JSON values.

kubectl reads through sigs.k8s.io/yaml, which keeps go-yaml v2: YAML 1.1's booleans (`yes`, `no`, `on`, `off`, `y`,
`n`) stay booleans, but `1e-6` is a number, which PyYAML reads as text. A run file must mean the same in both places, so
plain scalars are resolved here by go-yaml's rules (resolve.go of go.yaml.in/yaml/v2 2.4.2), tried side by side.
Stricter in one point: a key that stands twice is refused (kubectl takes the last).
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from selfalign_api.errors import ConfigError

__all__ = ["read_documents", "read_yaml"]

_WORDS: dict[str, bool | float | None] = {
    **{word: True for base in ("y", "yes", "true", "on") for word in (base, base.capitalize(), base.upper())},
    **{word: False for base in ("n", "no", "false", "off") for word in (base, base.capitalize(), base.upper())},
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGERS = (
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[oO]?[0-7]+"), 8),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)"), 10),
)
_TAG = "tag:yaml.org,2002:"
_KINDS = {bool: "bool", int: "int", float: "float", type(None): "null", str: "str"}


def read_yaml(text: str, origin: str) -> Any:
    """The one document of `text` as JSON values; `origin` (a file's name) begins the path of an error.

    Raises ConfigError with line and column: as `read_documents`, and for a second document.
    """
    documents = _read(text, origin)
    if len(documents) > 1:
        raise ConfigError.one(documents[1][0], "a second document begins here; write one a file")
    return documents[0][1] if documents else None


def read_documents(text: str, origin: str) -> list[Any]:
    """The documents of `text` that are not empty.

    Raises ConfigError with line and column: not YAML, a key twice, an infinite or missing number.
    """
    return [document for _, document in _read(text, origin)]


def _read(text: str, origin: str) -> list[tuple[str, Any]]:
    """Each document and where it begins."""
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        nodes = [node for node in _documents(loader) if not _is_null(node)]
        return [(_place(origin, node.start_mark), _json(loader.construct_document(node), "", origin)) for node in nodes]
    except yaml.MarkedYAMLError as error:
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError.one(_place(origin, error.problem_mark), f"not valid YAML: {said}") from error
    except yaml.YAMLError as error:
        raise ConfigError.one(origin, f"not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError.one(origin, "an anchor contains itself, or the nesting is too deep; write it out") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with go-yaml's plain scalars, and without keys that stand twice."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node without one: of a plain scalar by go-yaml's rules, else PyYAML's."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _TAG + ("merge" if value == "<<" else _KINDS[type(_scalar(value))])
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A map whose keys stand once; go-yaml writes number and truth keys as text."""
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or _is_null(key_node):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if (first := seen.get(key_node.value)) is not None:
                said = f'key "{key_node.value}" already stands in line {first.line + 1}; keep one'
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            seen[key_node.value] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


def _construct(loader: _Loader, node: Any) -> Any:
    return _scalar(str(loader.construct_scalar(node)))


for _name in ("bool", "int", "float", "null"):
    _Loader.add_constructor(_TAG + _name, _construct)


def _scalar(text: str) -> bool | int | float | str | None:
    """The value of a plain scalar by go-yaml v2's rules."""
    if text in _WORDS:
        return _WORDS[text]
    plain = text.replace("_", "") if text[0] in "0123456789+-" else text
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(plain):
            digits = re.sub(r"(?<=^)([-+]?)0[xXbBoO]?(?=.)", r"\1", plain) if base != 10 else plain
            return int(digits, base)
    if _FLOAT.fullmatch(plain) and not math.isinf(number := float(plain)):
        return number
    return text


def _documents(loader: _Loader) -> Any:
    while loader.check_node():
        yield loader.get_node()


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def _place(origin: str, mark: yaml.Mark | None) -> str:
    return origin if mark is None else f"{origin}:{mark.line + 1}:{mark.column + 1}"


def _json(value: Any, path: str, origin: str) -> Any:
    """`value` with text keys and JSON's numbers: 1.0 is 1, as Go writes it; infinite numbers are refused."""
    if isinstance(value, dict):
        return {_key(key): _json(item, f"{path}.{_key(key)}".lstrip("."), origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, f"{path}[{index}]", origin) for index, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError.one(path or origin, "must be a finite number", str(value))
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


def _key(key: object) -> str:
    """A key as go-yaml writes it: true is "true", 1.0 is "1"."""
    if isinstance(key, bool):
        return str(key).lower()
    return str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)
