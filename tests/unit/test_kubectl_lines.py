"""A log that is read again from anywhere, broken off anywhere, gives each of its lines once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_kubectl.lines import Position, moment_of, unseen

ZONES = ("Z", "+00:00", "+05:30", "-08:00")


def stamp(nanoseconds: int) -> bytes:
    """As a kubelet writes it: zeros at the end of a fraction may be there or not."""
    whole, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"2026-11-29T09:00:{whole % 60:02d}{fraction}Z".encode()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=4).filter(lambda text: b"\n" not in text)), max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6),
)
def test_each_line_is_told_once_wherever_a_reading_breaks_off(
    steps: list[tuple[int, bytes]], readings: list[tuple[int, int]]
) -> None:
    """Times never fall, and several lines may have one; a reading begins at or before where the last one was."""
    now, log = 0, []
    for step, text in steps:
        now += step * 100_000_000
        log.append((now, text + b"\n"))
    told: list[bytes] = []
    position = Position()
    for begins, length in [*readings, (0, len(log))]:
        first = min(begins, len(told))
        while first > 0 and log[first][0] == log[first - 1][0] if first < len(log) else False:
            first -= 1  # a kubelet gives all lines of a time, or none
        lines = [stamp(moment) + b" " + text for moment, text in log[first : first + length]]
        told += unseen(iter(lines), position)
    assert told == [text for _, text in log]


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_is_the_same_in_every_zone(zone: str) -> None:
    shift = {"Z": 0, "+00:00": 0, "+05:30": 19800, "-08:00": -28800}[zone]
    found = moment_of(f"1970-01-02T00:00:00.5{zone}".encode())
    assert found == (86400 - shift, 500_000_000)


@pytest.mark.parametrize("stamp", [b"", b"unable to retrieve", b"2026-13-01T00:00:00Z", b"2026-11-29", b"09:00:00Z"])
def test_what_is_no_time_is_told_as_it_is(stamp: bytes) -> None:
    assert moment_of(stamp) is None
    assert list(unseen(iter([stamp + b" container logs\n"]), Position())) == [stamp + b" container logs\n"]


def test_a_reading_that_raises_is_gone_on_with_where_it_was() -> None:
    def broken() -> Iterator[bytes]:
        yield stamp(1) + b" a\n"
        yield stamp(2) + b" b\n"
        raise ConnectionError

    position, told = Position(), []
    lines = unseen(broken(), position)
    told += [next(lines), next(lines)]
    with pytest.raises(ConnectionError):
        next(lines)
    assert position.since == "2026-11-29T09:00:00Z"
    told += unseen(
        iter([stamp(number) + b" " + text for number, text in ((1, b"a\n"), (2, b"b\n"), (3, b"c\n"))]), position
    )
    assert told == [b"a\n", b"b\n", b"c\n"]


def test_an_empty_line_is_a_line() -> None:
    assert list(unseen(iter([stamp(1) + b" \n"]), Position())) == [b"\n"]
