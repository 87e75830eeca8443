"""A file of ours that is empty, cut short or something else: told in words that say what to do, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of, spin

from selfalign_api.errors import ConfigError
from selfalign_jobs.accept.owner import OWNER, Owner, claim
from selfalign_jobs.local import cli
from selfalign_jobs.places import content
from selfalign_jobs.places.store import (
    MANIFEST,
    PLAN_FILE,
    Folder,
    Manifest,
    read_manifest,
    read_plan,
    write_manifest,
    write_plan,
)
from selfalign_jobs.publish.program import LINEAGE, refuse_other_runs
from selfalign_jobs.report.finish import REPORT, SUMMARY, has_report
from selfalign_jobs.step.reuse import other_runs
from selfalign_jobs.train.checkpoint import Checkpoint, newest, publish

REPOSITORY = Path(__file__).parents[2]
PLAN = plan_of("spin", spin())
METHOD = {"seed": 1}
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "blank": lambda whole: b" \n",
    "half": lambda whole: whole[: len(whole) // 2],
    "text": lambda whole: b"not JSON",
    "another object": lambda whole: b'{"a": 1}',
    "a list": lambda whole: b"[]",
    "a word": lambda whole: b'"x"',
    "bytes": lambda whole: b"\xff\x00" * 40,
}
breakages = pytest.mark.parametrize("how", BROKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.open((tmp_path / "run").as_uri())


def spoil(folder: Folder, name: str, how: str) -> bytes:
    spoilt = BROKEN[how](folder.read(name))
    folder.write(name, spoilt)
    return spoilt


def told(folder: Folder, name: str, act: Callable[[], Any], spoilt: bytes) -> str:
    with pytest.raises(ConfigError) as refused:
        act()
    assert folder.read(name) == spoilt
    said = str(refused.value)
    assert f"/{name}: is " in said
    assert "put it back from a copy" in said or "writes it again" in said
    return said


@breakages
def test_the_owner_of_a_folder(folder: Folder, how: str) -> None:
    claim(folder, PLAN, METHOD)
    spoilt = spoil(folder, OWNER, how)
    said = told(folder, OWNER, lambda: claim(folder, PLAN, METHOD), spoilt)
    assert "write another storage.url" in said


def test_an_owner_that_was_deleted_is_told_by_the_plan(folder: Folder) -> None:
    claim(folder, PLAN, METHOD)
    write_plan(folder, PLAN)
    folder.delete(OWNER)
    assert claim(folder, PLAN, METHOD)
    assert Owner.model_validate_json(folder.read(OWNER)).digest == PLAN.digest
    folder.delete(OWNER)
    with pytest.raises(ConfigError, match=r"holds another run's artefacts, as its plan\.json says; write"):
        claim(folder, PLAN.model_copy(update={"digest": "sha256:other"}), METHOD)
    assert not folder.exists(OWNER)


@breakages
def test_a_plan(folder: Folder, how: str) -> None:
    write_plan(folder, PLAN)
    spoilt = spoil(folder, PLAN_FILE, how)
    told(folder, PLAN_FILE, lambda: read_plan(folder), spoilt)
    told(folder, PLAN_FILE, lambda: other_runs([(folder.local or Path()).as_uri()]), spoilt)


@breakages
def test_a_manifest(folder: Folder, how: str) -> None:
    manifest = Manifest(
        step="i1-generate", kind="generate", digest="sha256:0", recipe="spin", version="0", attempt=1,
        started="", finished="", active_seconds=1.0, seed=0,
    )  # fmt: skip
    write_manifest(folder, manifest)
    told(folder, MANIFEST, lambda: read_manifest(folder), spoil(folder, MANIFEST, how))


@breakages
def test_a_checkpoint(folder: Folder, how: str) -> None:
    checkpoint = Checkpoint(attempt=1, step=3, ranks=1, zero_stage=None, seconds=1)
    publish(folder, checkpoint)
    name = f"{checkpoint.name}/checkpoint.json"
    told(folder, name, lambda: newest(folder), spoil(folder, name, how))


@breakages
def test_what_an_output_says_of_its_run(folder: Folder, how: str) -> None:
    folder.write(LINEAGE, json.dumps({"run": {"namespace": "a", "name": "b", "digest": "c"}}).encode())
    spoil(folder, LINEAGE, how)
    with pytest.raises(ConfigError, match="write a folder of its own"):
        refuse_other_runs("spec.output.url", "file:///x", folder, PLAN)


@breakages
def test_a_table(folder: Folder, how: str) -> None:
    folder.write("part.parquet", BROKEN[how](b"PAR1" + bytes(400) + b"PAR1"))
    with pytest.raises(ConfigError, match="is no whole Parquet file"):
        folder.read_table("part.parquet")


@breakages
def test_a_remembered_digest_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "BIG_FILE", 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"weights")
    whole = content.folder_digest(tmp_path / "model")
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    entry.write_bytes(BROKEN[how](entry.read_bytes()))
    assert content.folder_digest(tmp_path / "model") == whole
    assert len(entry.read_bytes()) == 64


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "BIG_FILE", 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"weights")
    assert content.folder_digest(tmp_path / "model").startswith("sha256:")


@breakages
def test_a_summary_is_written_again(folder: Folder, how: str) -> None:
    folder.write(REPORT, b"<html>")
    folder.write(SUMMARY, BROKEN[how](b'{"accuracy": {}, "winRate": {}, "pairs": 1}'))
    assert not has_report(folder)


@pytest.mark.parametrize("name", [OWNER, PLAN_FILE])
def test_the_command_line_says_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "default" / "sao-tiny"
    run.mkdir(parents=True)
    (run / name).write_bytes(b"")
    example = str(REPOSITORY / "examples" / "sao-tiny.yaml")
    arguments = ["run", example, "--mount", f"selfalign={REPOSITORY / 'examples'}", "--out", str(tmp_path)]
    assert cli.main(arguments if name == OWNER else ["report", str(run)]) == 64
    assert f"{run}/{name}: is empty; " in capsys.readouterr().err
