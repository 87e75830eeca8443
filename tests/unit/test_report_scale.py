"""Axes and numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.report.scale import axis, duration, number, power_of_ten
from selfalign_jobs.step.second_look import percent

values = st.lists(st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=20)


@given(values)
def test_an_axis_that_snaps_ends_on_ticks_and_holds_every_value(found: list[float]) -> None:
    made = axis("x", found)
    span = made.high - made.low
    assert (made.ticks[0], made.ticks[-1]) == (made.low, made.high)
    assert all(made.low - 1e-6 * span <= value <= made.high + 1e-6 * span for value in found)
    assert 2 <= len(made.ticks) <= 9


@given(values)
def test_an_axis_that_does_not_snap_ends_on_the_values_with_its_ticks_inside(found: list[float]) -> None:
    made = axis("x", found, snap=False)
    span = made.high - made.low
    if len(set(found)) > 1:
        assert (made.low, made.high) == (min(found), max(found))
    assert all(made.low - 1e-6 * span <= tick <= made.high + 1e-6 * span for tick in made.ticks)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20))
def test_an_axis_of_whole_numbers_has_whole_ticks(found: list[int]) -> None:
    assert all(tick == round(tick) for tick in axis("steps", found, whole=True).ticks)


def test_values_that_are_no_numbers_do_not_move_an_axis() -> None:
    assert axis("x", [1.0, float("nan"), 4.0, float("inf")]) == axis("x", [1.0, 4.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.125, "0.125"), (-2.5, "−2.5"), (3e-6, "3·10⁻⁶"), (1234, "1,234"), (12_500, "12.5k"), (2.5e6, "2.5M")],
)
def test_numbers_are_short_with_a_true_minus(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.98, "98.0 %"), (0.9987, "99.87 %"), (0.99999, ">99.99 %"), (0.00001, "<0.01 %")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(("seconds", "text"), [(8.41, "8.4 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_small_learning_rates_share_one_power_of_ten() -> None:
    assert power_of_ten([0.0, 6e-4, 3e-6]) == -4
    assert power_of_ten([0.0, 0.5]) == 0
