"""Ages are taken by the apiserver's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from selfalign_operator.kube.clock import TOLERATED, ServerClock

HERE = datetime(2026, 11, 28, 12, tzinfo=UTC)
SECONDS = st.integers(-(10**7), 10**7).map(lambda seconds: timedelta(seconds=seconds))


@given(ahead=SECONDS, fraction=st.floats(0, 0.999))
def test_the_time_is_the_apiservers_however_wrong_this_machines_is(ahead: timedelta, fraction: float) -> None:
    clock = ServerClock(lambda: HERE + timedelta(seconds=fraction))
    clock.heard(format_datetime(HERE + ahead, usegmt=True))
    assert abs(clock.now() - (HERE + ahead)) <= TOLERATED


@given(st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=20))
def test_two_clocks_that_agree_do_not_make_the_time_jump(delays: list[float]) -> None:
    clock = ServerClock(lambda: HERE)
    for delay in delays:
        clock.heard(format_datetime(HERE + timedelta(seconds=delay), usegmt=True))
        assert clock.now() == HERE


@given(st.none() | st.text(max_size=40))
def test_what_is_no_date_says_nothing(date: str | None) -> None:
    clock = ServerClock(lambda: HERE)
    clock.heard(date)
    assert clock.now().tzinfo is not None
