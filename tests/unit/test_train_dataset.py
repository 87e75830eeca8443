"""From pairs to examples: ids as they are, bounds, counts, and as ranks map them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.train.dataset import Examples, TokenIds
from selfalign_jobs.train.dataset import examples as written_examples
from selfalign_jobs.train.settings import PAIR_COLUMNS, Reads

PAIRS = Reads.of("simpo")


def examples(pairs: pa.Table, settings: TrainSettings, reads: Reads) -> Examples:
    """Those of a table, in a file that is still mapped when its folder is gone."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = pairs.select(reads.columns) if set(reads.columns) <= set(pairs.column_names) else pairs
        return written_examples(chosen.to_reader(7), settings, reads, Path(folder) / "examples.arrow")


ids = st.lists(st.integers(0, 99), min_size=1, max_size=12)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(PAIR_COLUMNS, ids)), min_size=1, max_size=20)


def table(values: list[dict[str, list[int]]]) -> pa.Table:
    """Pairs with these ids."""
    return pa.Table.from_pylist(values, pa.schema([(name, pa.list_(pa.int32())) for name in PAIR_COLUMNS]))


def settings(**values: object) -> TrainSettings:
    """Bounds of 16 tokens, 8 of the prompt."""
    given = {"learning_rate": 1e-3, "max_length_tokens": 16, "max_prompt_tokens": 8} | values
    return TrainSettings.model_validate(given)


def fits(row: dict[str, list[int]]) -> bool:
    """Within the bounds of `settings`."""
    prompt, chosen, rejected = (len(row[name]) for name in PAIR_COLUMNS)
    return prompt <= 8 and prompt + max(chosen, rejected) <= 16


@given(rows)
def test_drop_keeps_just_the_pairs_that_fit_and_counts_the_others(values: list[dict[str, list[int]]]) -> None:
    fitting = [row for row in values if fits(row)]
    if not fitting:
        with pytest.raises(ConfigError, match="maxLengthTokens"):
            examples(table(values), settings(), PAIRS)
        return
    found = examples(table(values), settings(), PAIRS)
    assert found.table.to_pylist() == fitting
    assert (found.pairs, found.dropped_overlong) == (len(values), len(values) - len(fitting))


@given(rows)
def test_truncate_keeps_every_pair_the_prompts_end_and_the_responses_start(values: list[dict[str, list[int]]]) -> None:
    found = examples(table(values), settings(overlong="Truncate"), PAIRS)
    assert found.table.num_rows == len(values)
    assert found.truncated == sum(not fits(row) for row in values)
    for before, after in zip(values, found.table.to_pylist(), strict=True):
        assert fits(after)
        assert before["prompt_ids"][-8:] == after["prompt_ids"]
        for name in ("chosen_ids", "rejected_ids"):
            assert after[name]
            assert before[name][: len(after[name])] == after[name]


def test_an_empty_table_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no pairs to train on: .* write more of what is drawn"):
        examples(table([]), settings(), PAIRS)


def test_pairs_that_are_all_held_out_are_told_as_that() -> None:
    with pytest.raises(ConfigError, match=r"spec.evaluation.prompts.url: holds the prompts of all 7 pairs"):
        examples(with_counts(table([]), {"pairs": 0, "promptHeldOut": 7}), settings(), PAIRS)
    one = with_counts(table([{name: [3] for name in PAIR_COLUMNS}]), {"pairs": 1, "promptHeldOut": 7})
    assert examples(one, settings(), PAIRS).counts["promptHeldOut"] == 7


def test_a_table_without_ids_names_what_it_lacks_and_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"no column prompt_ids, chosen_ids, rejected_ids \(it has chosen"):
        examples(pa.table({"chosen": ["yes"]}), settings(), PAIRS)


@given(rows)
def test_what_ranks_map_is_what_was_written_by_row(values: list[dict[str, list[int]]]) -> None:
    whole = pa.concat_tables([table(values), table(values[:1])])  # of several chunks
    ids = TokenIds(examples(whole, settings(max_length_tokens=99, max_prompt_tokens=50), PAIRS).table)
    for row, expected in enumerate(whole.to_pylist()):
        prompt, answers = ids[row]
        assert prompt.tolist() == expected["prompt_ids"]
        assert [answer.tolist() for answer in answers] == [expected["chosen_ids"], expected["rejected_ids"]]


@pytest.mark.parametrize("column", PAIR_COLUMNS)
def test_a_row_without_tokens_is_refused_by_its_number(column: str) -> None:
    whole = {name: [1, 2] for name in PAIR_COLUMNS}
    values = [whole, whole | {column: []}]
    with pytest.raises(ConfigError, match=f"row 1 has no tokens in {column}"):
        examples(table(values), settings(), PAIRS)


@given(rows, st.data())
def test_a_kept_answer_that_is_missing_or_too_long_costs_its_row_that_term_only(
    values: list[dict[str, list[int]]], data: st.DataObject
) -> None:
    fitting = [row for row in values if fits(row)] or [{"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}]
    kept = [data.draw(st.none() | st.lists(st.integers(0, 99), max_size=20)) for _ in fitting]
    given = table(fitting).append_column("kept_ids", pa.array(kept, pa.list_(pa.int32())))
    found = examples(given, settings(), Reads.of("selm"))
    bound = [16 - len(row["prompt_ids"]) for row in fitting]
    expected = [ids if ids and len(ids) <= room else [] for ids, room in zip(kept, bound, strict=True)]
    assert found.table["kept_ids"].to_pylist() == expected
    assert found.emptied == sum(bool(ids) and len(ids) > room for ids, room in zip(kept, bound, strict=True))
    assert found.dropped_overlong == 0
