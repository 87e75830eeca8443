"""JSON of any depth is read; what is too deep is marked, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_operator.cache import Cache
from selfalign_operator.kube.nesting import MAX_DEPTH, TOO_DEEP, is_cut, loads, shallow
from selfalign_operator.rendering import Manifests

from reconcile_world import CONFIG, SPEC, World  # isort: skip


def deep_list(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=40,
    )
)
def test_what_is_flat_stays_as_it_is(value: Any) -> None:
    text = json.dumps(value).encode()
    assert shallow(text) == text
    wrapped = b'{"padding": [' + b",".join([b"[]"] * MAX_DEPTH) + b'], "value": ' + text + b"}"
    assert json.loads(shallow(wrapped))["value"] == value


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 950, 9000])
def test_what_is_deep_is_cut_and_its_neighbours_stay(levels: int) -> None:
    text = b'{"before": "]}[{", "deep": ' + deep_list(levels) + b', "after": "\\"["}'
    found = json.loads(shallow(text))
    assert (found["before"], found["after"]) == ("]}[{", '"[')
    assert is_cut(found["deep"])
    assert TOO_DEEP.encode() in shallow(text)


def test_any_depth_is_parsed() -> None:
    assert is_cut(loads(deep_list(9000)))
    assert loads(deep_list(300)) == json.loads(deep_list(300))


@pytest.mark.parametrize("levels", [MAX_DEPTH, 700, 9000])
def test_a_run_that_is_too_deep_is_told_so(levels: int) -> None:
    spec = json.dumps(SPEC)[:-1] + ', "compute": {"podTemplate": {"spec": {"x": ' + deep_list(levels).decode() + "}}}}"
    metadata = {"name": "r", "namespace": "n", "uid": "u", "resourceVersion": "7"}
    run = loads(f'{{"kind": "SelfAlignmentRun", "metadata": {json.dumps(metadata)}, "spec": {spec}}}')
    cache = Cache()
    cache.put(run)
    view = cache.run(("n", "r"))
    assert view is not None
    with pytest.raises(ConfigError, match="nested deeper"):
        Manifests().effective(view, CONFIG, None)


def test_a_flat_run_is_not_told_so() -> None:
    assert not is_cut(World().spec)
