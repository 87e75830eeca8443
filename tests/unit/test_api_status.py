"""A status is read whatever stands in it: the good is kept, the bad named, the newer passed over."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statuses import STATUSES, as_written

from selfalign_api.status import MAX_STEPS, Status, read_status

TIME = "2026-11-24T10:00:00Z"
CONDITION = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "lastTransitionTime": TIME,
    "observedGeneration": 1,
}
STEP = {"name": "i1-train", "kind": "train", "iteration": 1, "state": "Running", "attempts": 2}


def test_no_status_is_an_empty_one() -> None:
    assert read_status(None) == read_status({}) == (Status(), ())


@pytest.mark.parametrize("raw", [[], 3, "Running", True])
def test_what_is_no_status_is_named(raw: Any) -> None:
    assert read_status(raw) == (Status(), ("status",))


def test_fields_of_a_newer_version_are_passed_over_wherever_they_stand() -> None:
    raw = {"steps": [{**STEP, "cost": {"euro": 3}}], "budget": 1, "conditions": [{**CONDITION, "severity": "Low"}]}
    status, bad = read_status(raw)
    assert bad == ()
    assert (status.steps[0].attempts, status.is_true("Accepted")) == (2, True)


def test_a_null_is_a_field_left_out() -> None:
    assert read_status({"steps": [{**STEP, "attempts": None}], "stage": None})[1] == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "Dancing"),
        ("attempts", -1),
        ("startTime", "yesterday"),
        ("runningSince", "2026-11-24T10:00:00"),
        ("url", 3),
    ],
)
def test_a_wrong_field_is_left_out_alone(field: str, value: Any) -> None:
    status, bad = read_status({"state": "Running", "steps": [{**STEP, field: value}, {"name": "b", "kind": "train"}]})
    assert bad == (f"status.steps[i1-train].{field}",)
    assert (status.state, [step.name for step in status.steps]) == ("Running", ["i1-train", "b"])


def test_an_entry_without_what_it_needs_is_left_out_whole() -> None:
    lost = {"number": 1, "reason": "OOMKilled", "time": TIME}
    raw = {
        "steps": [{**STEP, "lostAttempts": [lost, {"number": 2}]}, {"name": "no-kind"}, "text"],
        "conditions": [CONDITION, {**CONDITION, "type": "Failed", "reason": None}],
        "plan": {"digest": "sha256:0"},
    }
    status, bad = read_status(raw)
    assert bad == (
        "status.conditions[Failed]",
        "status.plan",
        "status.steps[2]",
        "status.steps[i1-train].lostAttempts[1]",
        "status.steps[no-kind]",
    )
    assert [attempt.number for attempt in status.steps[0].lost_attempts] == [1]
    assert [condition.type for condition in status.conditions] == ["Accepted"]
    assert status.plan is None


def test_of_entries_with_one_key_the_first_is_kept() -> None:
    status, bad = read_status({"steps": [STEP, {**STEP, "attempts": 9}, {"name": "b", "kind": "train"}]})
    assert bad == ("status.steps",)
    assert [(step.name, step.attempts) for step in status.steps] == [("i1-train", 2), ("b", 0)]


def test_of_a_list_too_long_the_beginning_is_kept() -> None:
    status, bad = read_status({"steps": [{"name": f"s{n}", "kind": "train"} for n in range(MAX_STEPS + 9)]})
    assert bad == ("status.steps",)
    assert len(status.steps) == MAX_STEPS


def test_nesting_without_end_is_no_status() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"steps": deep}
    assert read_status(deep) == (Status(), ("status",))


@given(STATUSES)
def test_a_status_that_was_written_is_read_as_it_was(status: Status) -> None:
    assert read_status(as_written(status)) == (status, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(TIME),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(STATUSES.map(as_written), st.data())
def test_whatever_is_done_to_a_status_by_hand_it_is_read(raw: Any, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        node = raw
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
                node[key] = data.draw(JSON)
                break
            node = node[key]
    status, _ = read_status(raw)
    assert read_status(as_written(status)) == (status, ())


@given(JSON)
def test_any_json_gives_a_status(raw: Any) -> None:
    assert isinstance(read_status(raw)[0], Status)
