"""Rows by number: what Arrow's own take gives, whatever pieces a table lies in, and beyond 2 GiB where that gives up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs import gather as module
from selfalign_jobs.gather import gathered, row_numbers

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("large", pa.large_string()),
        ("ids", pa.list_(pa.int32())),
        ("number", pa.float64()),
        ("truth", pa.bool_()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=3),
        "large": st.none() | st.text(max_size=3),
        "ids": st.none() | st.lists(st.integers(0, 9), max_size=3),
        "number": st.none() | st.floats(allow_nan=False),
        "truth": st.none() | st.booleans(),
        "kind": st.none() | st.sampled_from(["a", "b"]),
    }
)


@given(st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=5), st.data())
def test_it_is_arrows_own_take(pieces: list[list[dict[str, object]]], data: st.DataObject) -> None:
    table = pa.concat_tables([pa.Table.from_pylist(piece, SCHEMA) for piece in pieces]).unify_dictionaries()
    numbers = data.draw(st.lists(st.integers(0, table.num_rows - 1), max_size=12)) if table.num_rows else []
    rows = np.array(numbers, np.int64)
    found = gathered(table, rows)
    assert found.schema == table.schema
    assert found.to_pylist() == table.combine_chunks().take(row_numbers(rows)).to_pylist()


def test_all_rows_in_their_order_are_the_table_itself() -> None:
    table = pa.table({"n": [1, 2, 3]})
    assert gathered(table, np.arange(3)) is table


def test_a_result_of_several_pieces_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_A_PIECE", 7)
    table = pa.concat_tables([pa.table({"n": range(start, start + 10)}) for start in range(0, 100, 10)])
    rows = np.random.default_rng(0).permutation(100)
    assert gathered(table, rows)["n"].to_pylist() == rows.tolist()


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_pairs_beyond_two_gib_come_to_training(tmp_path: Path) -> None:
    """From parts through `training-pairs` to examples, prompts of 2.1 GiB among them, held twice and no more."""
    script = Path(__file__).with_name("large_pairs.py")
    path = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": path})
    rows, prompt_bytes, first, last, tables, peak = done.stdout.split()
    assert int(prompt_bytes) > 2**31
    assert (int(first), int(last)) == (0, int(rows) - 1)
    assert int(tables) < 2.2 * int(prompt_bytes)
    assert int(peak) < 7 << 30  # how much an allocator keeps beside it is the machine's
