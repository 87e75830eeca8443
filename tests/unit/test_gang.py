"""What a pod knows of its gang, and how it finds the head."""

from __future__ import annotations

import socket

import pytest

from selfalign_jobs.step import gang as gangs
from selfalign_jobs.step.gang import Gang

ENVIRONMENT = {
    "SELFALIGN_GANG_SIZE": "4",
    "SELFALIGN_GANG_HEAD": "run-1a2b3c4d-i1-train-1-0.run-1a2b3c4d",
    "JOB_COMPLETION_INDEX": "3",
    "POD_IP": "10.0.0.7",
}


def test_a_pod_knows_its_place() -> None:
    assert Gang.here(ENVIRONMENT) == Gang(4, 3, "run-1a2b3c4d-i1-train-1-0.run-1a2b3c4d", "10.0.0.7")


def test_a_training_meets_at_the_port_that_its_pods_are_given() -> None:
    """On the network of a node that other gangs share; else at its own."""
    found = [Gang.here(ENVIRONMENT | more) for more in ({}, {"SELFALIGN_GANG_PORT": "20001"})]
    assert [gang.port for gang in found if gang is not None] == [29500, 20001]


@pytest.mark.parametrize("environment", [{}, {"SELFALIGN_GANG_SIZE": "1", "JOB_COMPLETION_INDEX": "0"}])
def test_one_pod_is_no_gang(environment: dict[str, str]) -> None:
    assert Gang.here(environment) is None


@pytest.mark.parametrize("missing", ["SELFALIGN_GANG_HEAD", "JOB_COMPLETION_INDEX", "POD_IP"])
def test_half_a_description_is_an_error_that_names_what_is_missing(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        Gang.here({name: value for name, value in ENVIRONMENT.items() if name != missing})


def test_the_head_is_found_under_the_address_that_its_name_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that replaces it has another one; between the two the name has none."""
    monkeypatch.setattr(gangs, "LOOK_SECONDS", 0.01)
    addresses = iter([None, "127.0.0.2", None, "127.0.0.1"])
    monkeypatch.setattr(gangs, "_address_of", lambda _: next(addresses))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Gang(2, 1, "head.service", "127.0.0.3").find_head(listener.getsockname()[1], lambda: False)
    assert found == "127.0.0.1"


def test_a_name_that_nobody_has_is_looked_up_until_the_search_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "LOOK_SECONDS", 0.01)
    looks = iter([False, False, False, True])
    assert Gang(2, 1, "nobody.invalid", "127.0.0.3").find_head(1, lambda: next(looks)) is None


@pytest.mark.parametrize(
    ("now", "listens", "left"),
    [
        ("127.0.0.1", True, False),
        (None, True, False),
        ("127.0.0.2", True, True),
        ("127.0.0.1", False, True),
        (None, False, True),
    ],
    ids=["there", "no name", "replaced", "ended", "ended, no name"],
)
def test_a_head_has_left_once_it_is_replaced_or_nobody_listens(
    now: str | None, listens: bool, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gangs, "_address_of", lambda _: now)
    gang = Gang(2, 1, "head.service", "127.0.0.3")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if listens:
            assert gang.head_has_left("127.0.0.1", port) is left
    if not listens:
        assert gang.head_has_left("127.0.0.1", port) is left


def test_a_head_that_cannot_be_reached_has_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "_address_of", lambda _: "127.0.0.1")

    def unreachable(*_: object, **__: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(gangs.socket, "create_connection", unreachable)
    assert not Gang(2, 1, "head.service", "127.0.0.3").head_has_left("127.0.0.1", 1)
