"""The reference's log-probabilities belong to just these examples, layout, attention and precision; any other is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selfalign_jobs.places.store import Folder
from selfalign_jobs.train import reference
from selfalign_jobs.train.settings import PAIR_COLUMNS

KERNEL = "packed varlen bfloat16"
FOUND = np.array([[-1.5, -2.25], [-3.0, -4.0]])


def table(last: int = 3) -> pa.Table:
    rows = [{name: [1, 2] for name in PAIR_COLUMNS}, {name: [1, last] for name in PAIR_COLUMNS}]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.list_(pa.int32())) for name in PAIR_COLUMNS]))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path.as_uri())


def test_what_was_kept_is_read_again(folder: Folder) -> None:
    assert reference.read(folder, table(), KERNEL) is None
    reference.write(folder, table(), KERNEL, FOUND)
    kept = reference.read(folder, table(), KERNEL)
    assert kept is not None
    np.testing.assert_array_equal(kept, FOUND)
    assert folder.read_table(reference.REFERENCE).column_names == ["chosen", "rejected"]


def test_it_is_the_same_however_the_table_is_cut_into_chunks(folder: Folder) -> None:
    reference.write(folder, table(), KERNEL, FOUND)
    in_two = pa.concat_tables([table().slice(0, 1), table().slice(1, 1)])
    assert reference.read(folder, in_two, KERNEL) is not None


@pytest.mark.parametrize("kernel", ["padded sdpa bfloat16", "packed flex bfloat16", "packed varlen float16", ""])
def test_another_kernel_layout_or_precision_is_refused(folder: Folder, kernel: str) -> None:
    reference.write(folder, table(), KERNEL, FOUND)
    assert reference.read(folder, table(), kernel) is None


def test_other_examples_are_refused(folder: Folder) -> None:
    reference.write(folder, table(), KERNEL, FOUND)
    assert reference.read(folder, table(last=4), KERNEL) is None


def test_an_artefact_of_before_which_names_no_kernel_is_refused(folder: Folder) -> None:
    reference.write(folder, table(), KERNEL, FOUND)
    kept = folder.read_table(reference.REFERENCE)
    identity = kept.schema.metadata[b"identity"]
    folder.write_table(reference.REFERENCE, kept.replace_schema_metadata({"examples": identity}))
    assert reference.read(folder, table(), KERNEL) is None
