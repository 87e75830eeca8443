"""The length-controlled win rate: equal to a reference fit, and what it must not and must be moved by."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from selfalign_jobs.evaluate.length_controlled import length_controlled
from selfalign_jobs.evaluate.statistics import Estimate

Rows = tuple[list[float], list[int], list[int]]  # points, lengths of the new answers, of the old ones

rows = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n),
        st.lists(st.integers(0, 5000), min_size=n, max_size=n),
        st.lists(st.integers(0, 5000), min_size=n, max_size=n),
    )
)


def fixed(k: int) -> Rows:
    """Sixty rows by a formula: length decides two of three, and a seventh are ties."""
    new = [1 + (37 * i * i + 11 * k * i + k) % 400 for i in range(60)]
    old = [1 + (53 * i * i * i + 29 * i + 7 * k) % 300 for i in range(60)]
    won = [
        0.5 if i % 7 == k else float(x > y) if i % 3 else float((i * i + k) % 5 < 3)
        for i, (x, y) in enumerate(zip(new, old, strict=True))
    ]
    return won, new, old


# By LogisticRegression(C=4) of scikit-learn 1.9.1, each row twice as AlpacaEval gives it: as won with its points for a
# weight, as lost with the rest.
BY_SCIKIT_LEARN = [0.551485, 0.699408, 0.527133, 0.504334, 0.422123]


@pytest.mark.parametrize(("k", "value"), enumerate(BY_SCIKIT_LEARN))
def test_it_is_what_scikit_learn_fits_to_the_same_rows(k: int, value: float) -> None:
    assert length_controlled(*fixed(k)).value == pytest.approx(value, abs=2e-6)


@given(rows)
def test_with_answers_of_equal_length_it_is_the_raw_rate(drawn: Rows) -> None:
    won, new, _ = drawn
    assert length_controlled(won, new, new).value == pytest.approx(np.mean(won), abs=1e-6)


@given(rows, st.integers(1, 500))
def test_what_is_the_same_in_every_row_cannot_be_controlled_for(drawn: Rows, more: int) -> None:
    won, new, _ = drawn
    longer = [length + more for length in new]
    assert length_controlled(won, longer, new).value == pytest.approx(np.mean(won), abs=1e-6)


@given(rows)
def test_the_other_side_s_rate_is_the_rest_of_one(drawn: Rows) -> None:
    won, new, old = drawn
    here, there = length_controlled(won, new, old), length_controlled([1 - point for point in won], old, new)
    assert here.value == pytest.approx(1 - there.value, abs=1e-6)
    assert here.low == pytest.approx(1 - there.high, abs=1e-6)


@given(rows, st.randoms(use_true_random=False), st.integers(2, 9))
def test_neither_the_order_of_the_rows_nor_the_unit_of_length_counts(drawn: Rows, random: object, times: int) -> None:
    order = list(range(len(drawn[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    won, new, old = ([column[i] for i in order] for column in drawn)
    scaled = length_controlled(won, [times * x for x in new], [times * x for x in old])
    assert scaled.value == pytest.approx(length_controlled(*drawn).value, abs=1e-6)


@given(rows)
def test_it_is_a_share_within_its_interval(drawn: Rows) -> None:
    found = length_controlled(*drawn)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == len(drawn[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bias", [1.0, 2.0, 4.0, np.inf])
def test_a_judge_that_only_reads_length_finds_no_difference(seed: int, bias: float) -> None:
    """The new answers are longer in most rows, so that the raw rate says that they are better."""
    draw = np.random.default_rng(seed)
    longer = np.rint(draw.lognormal(5.6, 0.6, 3000) - draw.lognormal(5.1, 0.6, 3000))
    longer = longer[longer != 0]
    with np.errstate(over="ignore"):
        won = draw.random(longer.size) < 1 / (1 + np.exp(-bias * np.tanh(longer / longer.std(ddof=1))))
    assert won.mean() > 0.55
    assert length_controlled(won, longer, np.zeros(longer.size)).value == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_that_does_not_read_length_is_left_as_it_is(seed: int) -> None:
    draw = np.random.default_rng(seed)
    new, old = draw.lognormal(5.3, 0.6, 2000), draw.lognormal(5.1, 0.6, 2000)
    won = draw.random(2000) < 0.7
    assert length_controlled(won, new, old).value == pytest.approx(won.mean(), abs=0.02)


def test_its_interval_holds_the_true_rate_as_often_as_it_says() -> None:
    """Of 400 evaluations with 200 prompts, of which a third are ties."""
    draw, held, theta = np.random.default_rng(7), 0, 0.4
    for _ in range(400):
        longer = draw.normal(50, 200, 200)
        chance = 1 / (1 + np.exp(-(theta + 0.8 * np.tanh(longer / longer.std(ddof=1)))))
        won = np.where(draw.random(200) < 1 / 3, 0.5, draw.random(200) < chance)
        # Ties draw the odds together: the truth is what very many prompts give.
        found = length_controlled(won, longer, np.zeros(200))
        held += found.low <= TRUE_WITH_TIES <= found.high
    assert 0.925 <= held / 400 <= 0.975


def with_ties() -> float:
    """The rate of the same judge over very many prompts."""
    draw = np.random.default_rng(8)
    longer = draw.normal(50, 200, 400_000)
    chance = 1 / (1 + np.exp(-(0.4 + 0.8 * np.tanh(longer / longer.std(ddof=1)))))
    return length_controlled(1 / 6 + 2 / 3 * chance, longer, np.zeros(longer.size)).value


TRUE_WITH_TIES = with_ties()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_all_are_won_or_lost_nothing_else_can_be_said(share: float) -> None:
    assert length_controlled([share] * 9, range(9), range(9, 18)) == Estimate(share, share, share, 9)


@given(rows)
def test_columns_of_unequal_length_and_none_are_refused(drawn: Rows) -> None:
    won, new, old = drawn
    assume(len(won) > 1)
    for bad in ((won[1:], new, old), ([], [], [])):
        with pytest.raises(ValueError, match="no win rate"):
            length_controlled(*bad)
