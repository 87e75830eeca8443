"""From pairs to examples and batches: ids as they are, bounds, counts, the order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.plan import TrainSettings
from selfalign_jobs.train.dataset import ID_COLUMNS, RankBatches, examples, order

ids = st.lists(st.integers(0, 99), min_size=1, max_size=12)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(ID_COLUMNS, ids)), min_size=1, max_size=20)


def table(values: list[dict[str, list[int]]]) -> pa.Table:
    """Pairs with these ids."""
    return pa.Table.from_pylist(values, pa.schema([(name, pa.list_(pa.int32())) for name in ID_COLUMNS]))


def settings(**values: object) -> TrainSettings:
    """Bounds of 16 tokens, 8 of the prompt."""
    given = {"learning_rate": 1e-3, "max_length_tokens": 16, "max_prompt_tokens": 8} | values
    return TrainSettings.model_validate(given)


def fits(row: dict[str, list[int]]) -> bool:
    """Within the bounds of `settings`."""
    prompt, chosen, rejected = (len(row[name]) for name in ID_COLUMNS)
    return prompt <= 8 and prompt + max(chosen, rejected) <= 16


@given(rows)
def test_drop_keeps_just_the_pairs_that_fit_and_counts_the_others(values: list[dict[str, list[int]]]) -> None:
    fitting = [row for row in values if fits(row)]
    if not fitting:
        with pytest.raises(ConfigError, match="maxLengthTokens"):
            examples(table(values), settings())
        return
    found = examples(table(values), settings())
    assert found.table.to_pylist() == fitting
    assert (found.pairs, found.dropped_overlong) == (len(values), len(values) - len(fitting))
    assert found.longest == max(
        len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in fitting
    )


@given(rows)
def test_truncate_keeps_every_pair_the_prompts_end_and_the_responses_start(values: list[dict[str, list[int]]]) -> None:
    found = examples(table(values), settings(overlong="Truncate"))
    assert found.table.num_rows == len(values)
    assert found.truncated == sum(not fits(row) for row in values)
    for before, after in zip(values, found.table.to_pylist(), strict=True):
        assert fits(after)
        assert before["prompt_ids"][-8:] == after["prompt_ids"]
        for name in ("chosen_ids", "rejected_ids"):
            assert after[name]
            assert before[name][: len(after[name])] == after[name]


def test_an_empty_table_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no pairs to train on: .* write more personas"):
        examples(table([]), settings())


def test_a_table_without_ids_names_what_it_lacks_and_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"no column prompt_ids, chosen_ids, rejected_ids \(it has chosen"):
        examples(pa.table({"chosen": ["yes"]}), settings())


sizes = st.lists(st.integers(1, 50), min_size=1, max_size=40).map(np.array)


@given(sizes, st.integers(1, 20), st.integers(1, 16), st.integers(0, 2**63 - 1))
def test_the_order_is_passes_over_all_pairs_by_size_within_a_step(
    size: np.ndarray, steps: int, batch: int, seed: int
) -> None:
    found = order(size, steps, batch, seed)
    times = np.bincount(found, minlength=len(size))
    assert times.sum() == steps * batch
    assert times.max() - times.min() <= 1
    assert (np.diff(size[found.reshape(steps, batch)], axis=1) >= 0).all()
    assert np.array_equal(found, order(size, steps, batch, seed))


@given(sizes, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_every_optimiser_step_holds_the_same_pairs_whatever_the_ranks(
    size: np.ndarray, ranks: int, micro: int, accumulation: int, steps: int
) -> None:
    batch = ranks * micro * accumulation
    positions = order(size, steps, batch, seed=1)
    dealt = [list(RankBatches(positions, micro, ranks, rank)) for rank in range(ranks)]
    for step in range(steps):
        got = [i for rank in dealt for b in rank[step * accumulation : (step + 1) * accumulation] for i in b]
        assert sorted(got) == sorted(positions[step * batch : (step + 1) * batch].tolist())
