"""A result on the hub: one commit, whole, whatever was stopped before; refused in words before anything is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from huggingface_hub import constants
from played_shapes import known, played
from test_gates import After, asked, contents, run_of

from selfalign_api.errors import ConfigError
from selfalign_api.method import Output
from selfalign_api.plan import Plan, Publish
from selfalign_jobs.accept.program import check_outputs
from selfalign_jobs.accept.resolve import publish_steps
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.publish import repository
from selfalign_jobs.publish.repository import Repository
from selfalign_jobs.step.context import Stopped
from testbed import hub as served

MODEL, PAIRS = "hf://tiny/aligned", "hf://datasets/tiny/aligned-pairs"
TOKEN = "hf_secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def endpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    root.mkdir()
    with served.hub(root, TOKEN) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub here takes LFS
        monkeypatch.setattr("huggingface_hub.utils._runtime.is_xet_available", lambda: False)
        monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield url


def finished(tmp_path: Path, **output: Any) -> tuple[Folder, Plan, Publish]:
    """A run that has trained a model, and what publishes it."""
    folder, plan = played(tmp_path / "runs", "offline")
    (step,) = publish_steps(plan.steps, Output(**output), asked(), tmp_path)
    model = step_folder(folder, 1, "i1-train").child("model")
    for name, content in (("config.json", b"{}"), ("README.md", b"# A model\n"), ("model.safetensors", b"w" * 4096)):
        model.write(name, content)
    return folder, Plan(**dict(plan) | {"steps": (*plan.steps, step)}), step


def log(root: Path) -> list[dict[str, Any]]:
    file = root / "commits.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def published(folder: Path) -> dict[str, bytes]:
    found = contents(folder)
    found.pop(".gitattributes", None)
    return found


def test_a_repository_has_what_a_folder_would_have_in_one_commit_and_is_private(tmp_path: Path, root: Path) -> None:
    with known("offline"):
        folder, plan, step = finished(tmp_path, url=MODEL, dataset_url=PAIRS)
        run_of(folder, plan, step)
        step_folder(folder, step.iteration, step.name).delete("manifest.json")  # the lineage would have it
        beside = {"url": (tmp_path / "m").as_uri(), "dataset_url": (tmp_path / "d").as_uri()}
        run_of(folder, plan, step.model_copy(update=beside))
    assert published(root / "models/tiny/aligned") == contents(tmp_path / "m")
    assert published(root / "datasets/tiny/aligned-pairs") == contents(tmp_path / "d")
    made = [line["visibility"] for line in log(root) if "made" in line]
    assert made == ["private", "private"]
    assert [line["files"] for line in log(root) if "commit" in line] == [
        sorted(contents(tmp_path / name)) for name in ("m", "d")
    ]


def test_public_is_what_is_asked_to_be(tmp_path: Path, root: Path) -> None:
    with known("offline"):
        run_of(*finished(tmp_path, url=MODEL, visibility="Public"))
    assert log(root)[0] == {"made": "tiny/aligned", "visibility": "public"}


@pytest.mark.parametrize("files", range(5))
def test_a_stop_anywhere_shows_nobody_anything_and_sends_nothing_twice(tmp_path: Path, root: Path, files: int) -> None:
    with known("offline"):
        folder, plan, step = finished(tmp_path, url=MODEL)
        if files < 4:
            with pytest.raises(Stopped):
                run_of(folder, plan, step, After(files))
            assert published(root / "models/tiny/aligned") == {}
        uploaded = {path: path.stat().st_mtime_ns for path in (root / "lfs").glob("*")}
        run_of(folder, plan, step)
        step_folder(folder, step.iteration, step.name).delete("manifest.json")  # a kill right after the commit
        run_of(folder, plan, step)
    assert len([line for line in log(root) if "commit" in line]) == 1
    assert {path: path.stat().st_mtime_ns for path in uploaded} == uploaded
    assert set(published(root / "models/tiny/aligned")) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "selfalign.json",
    }


def test_further_models_are_folders_of_the_repository(tmp_path: Path, root: Path) -> None:
    with known("offline"):
        folder, plan, step = finished(tmp_path, url=MODEL)
        run_of(folder, plan, step.model_copy(update={"beside": {"draft-model": step.model}}))
    assert (root / "models/tiny/aligned/draft-model/model.safetensors").is_file()


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_a_file_of_a_bucket_lies_here_only_while_it_is_sent(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(repository, "SMALL_BYTES", small)
    (tmp_path / "model.safetensors").write_bytes(b"w" * 4096)
    bucket = Folder(pafs.SubTreeFileSystem("/", pafs.LocalFileSystem()), str(tmp_path)[1:])
    assert bucket.local is None
    target = Repository("tiny/aligned", "model", "Private", "spec.output.url")
    target.make()
    target.copy(bucket, "model.safetensors")
    target.commit("selfalign: a test")
    assert published(root / "models/tiny/aligned") == {"model.safetensors": b"w" * 4096}


def holds(root: Path, name: str, content: bytes) -> None:
    there = root / "models/tiny/aligned"
    there.mkdir(parents=True)
    (there / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (there / name).write_bytes(content)


ANOTHER = json.dumps({"run": {"namespace": "team", "name": "other", "digest": "sha256:1"}}).encode()
REFUSED: dict[str, tuple[str, Callable[[Path, pytest.MonkeyPatch], object], str]] = {
    "no token": (MODEL, lambda _, patch: patch.delenv("HF_TOKEN"), "give a token that may write"),
    "a token that was withdrawn": (
        MODEL,
        lambda _, patch: patch.setenv("HF_TOKEN", "hf_old"),
        "give a token that may write",
    ),
    "a token that reads": (
        MODEL,
        lambda _, patch: patch.setattr(served._Handler, "read_only", True),
        "token of ann may only read",
    ),
    "another's organisation": ("hf://elsewhere/aligned", lambda *_: None, "is ann's, who is not of elsewhere"),
    "another's dataset": ("hf://datasets/elsewhere/aligned", lambda *_: None, "is ann's, who is not of elsewhere"),
    "what no run has published": (MODEL, lambda root, _: holds(root, "config.json", b"{}"), "holds config.json"),
    "what another run has published": (
        MODEL,
        lambda root, _: holds(root, "selfalign.json", ANOTHER),
        "holds what team/other",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_published_there_is_refused_when_the_run_is_accepted(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url, change, words = REFUSED[name]
    change(root, monkeypatch)
    with known("offline"):
        _, plan, step = finished(tmp_path, **{"dataset_url" if "datasets" in url else "url": url})
        with pytest.raises(ConfigError, match=words) as error:
            check_outputs(step, plan, {})
    assert error.value.problems[0].path == ("spec.output.datasetUrl" if "datasets" in url else "spec.output.url")


def test_what_can_be_is_accepted_and_nothing_is_made(tmp_path: Path, root: Path) -> None:
    with known("offline"):
        _, plan, step = finished(tmp_path, url=MODEL, dataset_url=PAIRS)
        check_outputs(step, plan, {})
    assert log(root) == []


def test_an_organisation_that_lets_nobody_write_is_told_when_it_is_tried(tmp_path: Path) -> None:
    with known("offline"), pytest.raises(ConfigError, match="lets this token not write to model full/aligned"):
        run_of(*finished(tmp_path, url="hf://full/aligned"))


def test_a_hub_that_cannot_be_reached_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with known("offline"):
        _, plan, step = finished(tmp_path, url=MODEL)
        with pytest.raises(ConnectionError, match="cannot be reached now"):
            check_outputs(step, plan, {})
