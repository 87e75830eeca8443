"""Plain scalars mean what they mean to kubectl (go-yaml v2 under sigs.k8s.io/yaml, whose answers stand here)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.kubectl_yaml import read_yaml

SCALARS: dict[str, Any] = {
    "1e-6": 1e-06,
    "1E6": 1000000,
    "1.e3": 1000,
    ".5": 0.5,
    "+5": 5,
    "+.5": 0.5,
    "-.5e-3": -0.0005,
    "5.": 5,
    "1.0": 1,
    "-0": 0,
    "1_000": 1000,
    "0x1F": 31,
    "-0x1f": -31,
    "0o17": 15,
    "017": 15,
    "0b11": 3,
    "089": 89,
    "9223372036854775808": 9223372036854775808,
    "1e400": "1e400",
    "0x": "0x",
    "e5": "e5",
    "1e": "1e",
    "1.5.2": "1.5.2",
    "1,000": "1,000",
    "yes": True,
    "Yes": True,
    "no": False,
    "on": True,
    "off": False,
    "y": True,
    "n": False,
    "True": True,
    "tRUE": "tRUE",
    "~": None,
    "null": None,
    "": None,
    "2001-01-01": "2001-01-01",
    "12:30:45": "12:30:45",
    "=": "=",
    '"5"': "5",
    "!!str 5": "5",
    "!!float 3": 3,
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=SCALARS)
def test_a_scalar_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    read = read_yaml(f"a: {text}\n", "f")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "name"), [("1", "1"), ("yes", "true"), ("1.5", "1.5"), ("1e3", "1000"), ("0x10", "16")]
)
def test_a_key_is_text(key: str, name: str) -> None:
    assert read_yaml(f"{key}: 2\n", "f") == {name: 2}


def test_anchors_and_merge_keys_are_read() -> None:
    assert read_yaml("a: &x {c: 1}\nb: {<<: *x, d: 2}\n", "f") == {"a": {"c": 1}, "b": {"c": 1, "d": 2}}


def test_empty_documents_around_the_one_are_nothing() -> None:
    assert read_yaml("---\n---\na: 1\n---\n", "f") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: {b: 1, b: 2}", 'f:1:11: not valid YAML: key "b" already stands in line 1; keep one'),
        ("? [a]\n: 1\n", "f:1:3: not valid YAML: a key must be text"),
        ("~: 1\n", "f:1:1: not valid YAML: a key must be text"),
        ("a: &x [*x]", "f: an anchor contains itself, or the nesting is too deep; write it out"),
        ("a: .nan", "a: nan must be a finite number"),
        ("a: [{b: -.inf}]", "a[0].b: -inf must be a finite number"),
        ("a: 1\n---\nb: 1\n", "f:3:1: a second document begins here; write one a file"),
    ],
)
def test_what_kubectl_refuses_or_takes_by_halves_is_refused_with_its_place(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "f")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "text", ["a: !!python/name:os.system", "a: !foo 3", "\tx: 1", "a: b: c", "a: 'x", "a: \x01", "a: ["]
)
def test_what_is_not_plain_yaml_is_refused_as_such(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(text, "f")


TEXT = st.text(st.characters(categories=("L", "N", "P", "Zs")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, JSON))
def test_json_is_read_as_what_it_says(value: dict[str, Any]) -> None:
    assert read_yaml(json.dumps(value, ensure_ascii=False), "f") == value
