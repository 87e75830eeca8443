"""The store: commits are whole, and readers see only what a manifest names."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.places import file_url
from selfalign_jobs.places.store import (
    Folder,
    Manifest,
    TableEntry,
    filesystem_of,
    read_manifest,
    read_parts,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path.as_uri())


def manifest(**changes: object) -> Manifest:
    whole = {
        "step": "i1-generate", "kind": "generate", "digest": "sha256:0", "recipe": "sao", "version": "0", "attempt": 1,
        "started": "", "finished": "", "active_seconds": 1.0, "seed": 0,
    }  # fmt: skip
    return Manifest.model_validate(whole | changes)


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write("a/b.json", b"{}")
    assert folder.read("a/b.json") == b"{}"
    assert folder.files() == ["a/b.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_no_litter(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    folder.write("part.parquet", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("part.parquet", b"new")
    assert folder.read("part.parquet") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]


def test_a_killed_writers_temporary_file_is_no_file(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123").write_bytes(b"half")
    assert folder.files() == []


def test_a_step_is_done_when_its_manifest_is_there(folder: Folder) -> None:
    assert read_manifest(folder) is None
    write_manifest(folder, manifest())
    assert read_manifest(folder) == manifest()


def test_readers_follow_the_manifest_and_not_the_folder(folder: Folder) -> None:
    for attempt in (1, 2):
        folder.write_table(f"parts/pairs/{attempt}.parquet", pa.table({"n": [attempt]}))
    entry = TableEntry(parts=("parts/pairs/2.parquet",), rows=1)
    assert read_parts(folder, entry)["n"].to_pylist() == [2]


@given(st.lists(st.text(), max_size=20))
def test_a_table_survives_the_store(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    folder = Folder.open(tmp_path_factory.mktemp("store").as_uri())
    table = pa.table({"text": pa.array(values, pa.string())})
    folder.write_table("t.parquet", table)
    assert folder.read_table("t.parquet").equals(table)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not name.startswith(".tmp-")
)


@given(st.lists(NAMES, min_size=1, max_size=3), NAMES)
def test_a_folder_may_have_any_name(tmp_path_factory: pytest.TempPathFactory, names: list[str], file: str) -> None:
    place = tmp_path_factory.mktemp("store").joinpath(*names)
    folder = Folder.open(file_url(place))
    folder.write(file, b"content")
    assert (folder.local, folder.files(), folder.read(file)) == (place, [file], b"content")
    child = Folder.open(f"{file_url(place.parent)}/{quote(place.name)}")
    child.copy(folder, file)
    assert child.exists(file)
    child.delete(file)
    assert folder.files() == []


@given(NAMES)
def test_a_key_of_a_bucket_may_have_any_name(name: str) -> None:
    server = "?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    if "?" not in name and not re.search("%[0-9a-fA-F]{2}", name):
        assert filesystem_of(f"s3://bucket/a/{name}/b{server}")[1] == f"bucket/a/{name}/b"


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"spec\.storage\.url.*write file:///PATH"):
        Folder.open("ftp://host/path")
