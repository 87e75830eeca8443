"""The statistics against published values and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.evaluate.statistics import (
    bootstrap_mean,
    exact_match,
    normalised,
    paired_gain,
    wilson,
    win_rate,
)

shares = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.booleans(), min_size=1, max_size=300)
# Sixteenths, so that 1 - p is exact and a tie stays one when the sides are swapped.
probabilities = st.lists(st.none() | st.integers(0, 16).map(lambda k: k / 16), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe (1998), table I, method 3 (score interval without continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(shares)
def test_wilson_holds_the_share_and_stays_in_the_unit_interval(share: tuple[int, int]) -> None:
    found = wilson(*share)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


@given(shares)
def test_wilson_is_symmetric_in_success_and_failure(share: tuple[int, int]) -> None:
    successes, trials = share
    found, mirrored = wilson(successes, trials), wilson(trials - successes, trials)
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert found.high == pytest.approx(1 - mirrored.low, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {trials} is no share"):
        wilson(successes, trials)


@given(scores, st.integers(0, 2**63 - 1))
def test_the_bootstrap_repeats_with_its_seed_and_holds_the_mean(values: list[bool], seed: int) -> None:
    found = bootstrap_mean(values, seed)
    assert found == bootstrap_mean(values, seed)
    assert found.value == pytest.approx(np.mean(values))
    assert min(values) <= found.low <= found.high <= max(values)


def test_the_bootstrap_of_resampled_counts_is_the_bootstrap_of_resampled_prompts() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=200, p=[0.3, 0.2, 0.5])
    indices = np.random.default_rng(1).integers(0, values.size, size=(10_000, values.size))
    low, high = np.quantile(values[indices].mean(axis=1), [0.025, 0.975])
    found = bootstrap_mean(values, seed=2)
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_the_bootstrap_interval_covers_the_truth_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        found = bootstrap_mean(rng.random(150) < 0.7, seed=trial)
        covered += found.low <= 0.7 <= found.high
    assert 270 <= covered <= 297


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="nothing to resample"):
        bootstrap_mean([], seed=0)


@given(scores, st.randoms(use_true_random=False))
def test_the_gain_is_the_difference_of_the_means(before: list[bool], random: object) -> None:
    after = [not value if random.random() < 0.4 else value for value in before]  # type: ignore[attr-defined]
    found = paired_gain(before, after, seed=3)
    assert found.value == pytest.approx(np.mean(after) - np.mean(before))
    assert found.low - 1e-12 <= found.value <= found.high + 1e-12 or len(before) < 30


@given(scores)
def test_no_change_is_a_gain_of_zero_without_width(values: list[bool]) -> None:
    found = paired_gain(values, values, seed=0)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairing_narrows_the_interval_of_the_gain() -> None:
    rng = np.random.default_rng(5)
    before = rng.random(400) < 0.5
    after = before | (rng.random(400) < 0.1)
    paired = paired_gain(before, after, seed=0)
    unpaired = paired_gain(before, rng.permutation(after), seed=0)
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


def test_lists_of_unequal_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="2 prompts before and 1 after"):
        paired_gain([True, False], [True], seed=0)


@given(st.text(), st.text(alphabet=" \t\n\r", min_size=1, max_size=3))
def test_exact_match_sees_through_whitespace_only(text: str, space: str) -> None:
    spaced = space + space.join(text.split()) + space
    assert exact_match(spaced, text)
    assert normalised(normalised(text)) == normalised(text)
    assert not exact_match(text + "x", text)


@pytest.mark.parametrize(("answer", "reference"), [("Seven", "seven"), ("seven.", "seven"), ("the seven", "seven")])
def test_case_punctuation_and_articles_count(answer: str, reference: str) -> None:
    assert not exact_match(answer, reference)


@given(probabilities, st.sampled_from([0, 0.0625, 0.25]), st.integers(0, 2**32))
def test_the_win_rates_of_both_sides_add_up_to_one(found: list[float | None], tie: float, seed: int) -> None:
    mirrored = [None if p is None else 1 - p for p in found]
    assert win_rate(found, tie, seed).value + win_rate(mirrored, tie, seed).value == pytest.approx(1)


def test_ties_and_unread_verdicts_count_half() -> None:
    found = win_rate([0.9, 0.1, 0.5, None, 0.52, 0.48], tie_margin=0.02, seed=0)
    assert found.value == pytest.approx((1 + 0 + 4 * 0.5) / 6)


def test_a_judge_that_never_decides_gives_one_half_without_width() -> None:
    found = win_rate([0.5, None, 0.5], tie_margin=0, seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
