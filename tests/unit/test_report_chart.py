"""Charts: well-formed, escaped, and true to what they draw."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from selfalign_jobs.report.chart import (
    POINTS,
    Curve,
    Interval,
    bar,
    bin_edges,
    curve_chart,
    histogram,
    interval_chart,
    overlaid_curves,
    running_mean,
    scatter,
    thinned,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50).map(lambda xs: np.array(xs, dtype=np.float64))
HOSTILE = "</svg><script>alert(1)</script>\"'&"


def charts(values: np.ndarray) -> list[Markup]:
    steps = np.arange(1, len(values) + 1, dtype=np.float64)
    rows = [Interval(HOSTILE, 0.4, 0.3, 0.5, hollow=True), Interval("after", 0.8, 0.7, 0.9)]
    return [
        curve_chart(HOSTILE, HOSTILE, "y", Curve(steps, values), level=0.5),
        overlaid_curves(HOSTILE, "x", HOSTILE, [("s0", Curve(steps, values)), ("s1", Curve(steps, -values))]),
        histogram(HOSTILE, "x", "y", np.abs(values), np.abs(values[:1])),
        scatter(HOSTILE, "x", "y", values, values[::-1], (HOSTILE, "b", "c")),
        interval_chart(HOSTILE, "x", rows, level=0.5),
        bar([(0.5, "a", HOSTILE), (0.25, "lost", "rest")]),
    ]


@given(numbers)
def test_every_chart_is_well_formed_with_all_words_escaped_and_all_places_finite(values: np.ndarray) -> None:
    for chart in charts(values):
        drawn = ElementTree.fromstring(str(chart))
        assert drawn.get("role") == "img"
        assert drawn.get("aria-label")
        assert "<script" not in chart
        assert not re.search(r"\b(nan|inf)\b", str(chart))


def test_a_curve_leaves_out_steps_without_a_value() -> None:
    curve = Curve(np.array([1.0, 2.0, 3.0]), np.array([0.5, np.nan, 0.7]))
    steps, values = thinned(curve)
    assert steps.tolist() == [1, 3]
    assert values.tolist() == [0.5, 0.7]


def test_a_long_curve_is_drawn_by_means_that_keep_its_mean() -> None:
    values = np.random.default_rng(0).normal(size=10 * POINTS)
    _, drawn = thinned(Curve(np.arange(len(values), dtype=np.float64), values))
    assert len(drawn) == POINTS
    assert drawn.mean() == pytest.approx(values.mean())


@given(st.floats(-1e6, 1e6), st.integers(1, 200))
def test_the_running_mean_of_a_constant_is_that_constant(value: float, size: int) -> None:
    assert running_mean(np.full(size, value)) == pytest.approx(np.full(size, value), abs=1e-6)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_every_length_falls_in_a_bin_and_bins_hold_equally_many_whole_numbers(found: list[int]) -> None:
    edges = bin_edges(np.array(found, dtype=np.float64))
    assert np.histogram(found, edges)[0].sum() == len(found)
    assert np.allclose(np.diff(edges), np.round(np.diff(edges)[0]))
    assert len(edges) <= 33


def test_a_long_tail_is_in_the_last_bin_which_says_so() -> None:
    lengths = np.array([2.0] * 500 + [3.0] * 500 + [900.0])
    chart = histogram("t", "tokens", "%", lengths, np.array([]))
    assert "tokens; last bin: 3 and more" in chart
    assert "last bin" not in histogram("t", "tokens", "%", lengths[:-1], np.array([]))


@given(numbers)
def test_every_value_falls_in_a_bin(values: np.ndarray) -> None:
    edges = bin_edges(values)
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_a_small_learning_rate_is_drawn_in_its_power_of_ten() -> None:
    curve = Curve(np.arange(1.0, 4.0), np.array([1e-6, 5e-7, 0.0]))
    assert "learning rate, 10⁻⁶" in curve_chart("t", "step", "learning rate", curve)
