"""Names are legal DNS labels from any run, fit the places that they go to, and tell everything apart."""

import re

from hypothesis import given
from hypothesis import strategies as st

from selfalign_operator.names import (
    BASE_MAX,
    RAYJOB_MAX,
    WORKLOAD_MAX,
    base_name,
    config_map_name,
    ray_name,
    volume_name,
    workload_name,
)

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
RUN = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)  # what the CRD's rule lets through
ANY = st.text(max_size=253)  # what may stand in an object of an older CRD, or in a plan
STEPS = st.sampled_from(["accept", "i1-generate", "i32-evaluate", "x-1", "x"]) | ANY
ATTEMPTS = st.integers(1, 10**6)
TRY = st.tuples(RUN | ANY, st.uuids().map(str), STEPS, ATTEMPTS, st.booleans())


def name_of(run: str, uid: str, step: str, attempt: int, collect: bool, longest: int = WORKLOAD_MAX) -> str:
    return workload_name(run, uid, step, attempt, collect=collect, longest=longest)


@given(TRY, st.sampled_from([WORKLOAD_MAX, RAYJOB_MAX]))
def test_a_workloads_name_is_a_dns_label_with_room_for_the_index_of_its_pods(
    made: tuple[str, str, str, int, bool], longest: int
) -> None:
    name = name_of(*made, longest=longest)
    assert LABEL.fullmatch(name)
    assert len(name) <= longest


@given(ANY, st.uuids().map(str), ANY)
def test_the_names_of_a_runs_objects_are_dns_labels(run: str, uid: str, content: str) -> None:
    assert len(base_name(run, uid)) <= BASE_MAX
    for name in (base_name(run, uid), config_map_name(run, uid, content), ray_name(run, uid)):
        assert LABEL.fullmatch(name)
        assert len(name) <= 63


@given(TRY)
def test_the_same_attempt_always_has_the_same_name(made: tuple[str, str, str, int, bool]) -> None:
    assert name_of(*made) == name_of(*made)


@given(st.lists(TRY, min_size=2, max_size=20, unique=True), st.sampled_from([WORKLOAD_MAX, RAYJOB_MAX]))
def test_two_attempts_never_share_a_name(tries: list[tuple[str, str, str, int, bool]], longest: int) -> None:
    names = {name_of(*made, longest=longest) for made in tries}
    assert len(names) == len(tries)


@given(RUN, st.uuids().map(str), ATTEMPTS)
def test_attempts_of_one_step_differ_however_long_the_names(run: str, uid: str, attempt: int) -> None:
    step = "i32-" + "a-very-long-name-of-a-step" * 3
    one, other = workload_name(run, uid, step, attempt), workload_name(run, uid, step, attempt + 1)
    collecting = workload_name(run, uid, step, attempt, collect=True)
    assert len({one, other, collecting}) == 3
    assert one.endswith(f"-{attempt}")  # the end that a person looks for is kept


def test_names_are_what_they_were() -> None:
    """An upgrade must not rename what is there: a running attempt would be made a second time."""
    uid = "7b0ff66c-6d1c-4e0f-9d5f-2f9b8a3c1e5d"
    assert base_name("sao-tiny", uid) == "sao-tiny-2e87a853"
    assert workload_name("sao-tiny", uid, "i1-generate", 2) == "sao-tiny-2e87a853-i1-generate-2"
    assert workload_name("sao-tiny", uid, "i1-generate", 2, collect=True) == "sao-tiny-2e87a853-i1-generate-2-c"
    long = workload_name("a" * 40, uid, "i1-generate", 2, longest=RAYJOB_MAX)
    assert long == "aaaaaaaaaaaaaaaaaaa-fa69091c-a853-i1-generate-2"


@given(st.lists(ANY, min_size=2, max_size=20, unique=True))
def test_volumes_of_two_claims_never_share_a_name(claims: list[str]) -> None:
    names = {volume_name(claim) for claim in claims}
    assert len(names) == len(claims)
    assert all(LABEL.fullmatch(name) and len(name) <= 63 for name in names)
