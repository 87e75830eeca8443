"""Partial specs over one another."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.merge import merge

PARTS = st.recursive(
    st.integers() | st.text("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
MAPS = st.dictionaries(st.sampled_from("abc"), PARTS)


def test_maps_merge_and_scalars_replace() -> None:
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}


def test_lists_replace() -> None:
    below = {"criteria": ["x", "y"], "checks": [{"name": "win"}], "credentials": [{"urlPrefix": "a"}]}
    above = {"criteria": ["z"], "checks": [{"name": "accuracy"}], "credentials": []}
    assert merge(below, above) == above


def test_a_role_overrides_the_role_of_its_name_field_by_field() -> None:
    below = {"roles": [{"name": "respond", "temperature": 0.6, "topP": 1}, {"name": "judge", "temperature": 0}]}
    above = {"roles": [{"name": "writePrompt"}, {"name": "respond", "temperature": 1}]}
    assert merge(below, above) == {
        "roles": [
            {"name": "respond", "temperature": 1, "topP": 1},
            {"name": "judge", "temperature": 0},
            {"name": "writePrompt"},
        ]
    }


def test_an_iteration_override_joins_the_one_of_its_iteration() -> None:
    below = {"iterationOverrides": [{"fromIteration": 3, "learningRate": 1}]}
    above = {"iterationOverrides": [{"fromIteration": 3, "beta": 5}, {"fromIteration": 4, "beta": 6}]}
    assert merge(below, above)["iterationOverrides"] == [
        {"fromIteration": 3, "learningRate": 1, "beta": 5},
        {"fromIteration": 4, "beta": 6},
    ]


def test_a_further_training_overrides_the_one_of_its_name() -> None:
    below = {"stages": [{"name": "improver", "epochs": 1, "optimizer": {"type": "rmsprop"}}]}
    above = {"stages": [{"name": "improver", "epochs": 2, "optimizer": {"beta2": 0.9}}]}
    assert merge(below, above)["stages"] == [
        {"name": "improver", "epochs": 2, "optimizer": {"type": "rmsprop", "beta2": 0.9}}
    ]


@given(MAPS, MAPS)
def test_what_is_above_always_stands_and_nothing_is_changed(below: dict[str, object], above: dict[str, object]) -> None:
    before = copy.deepcopy((below, above))
    merged = merge(below, above)
    assert (below, above) == before
    assert merge(merged, above) == merged
    assert merged.keys() == below.keys() | above.keys()


@given(MAPS)
def test_nothing_above_or_below_changes_nothing(part: dict[str, object]) -> None:
    assert merge(part, {}) == part
    assert merge({}, part) == part
