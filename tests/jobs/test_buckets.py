"""Buckets on servers of both kinds: what is there, what is refused, and that nothing is ever half written."""

from __future__ import annotations

import errno
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign_api.errors import ConfigError
from selfalign_jobs.accept.program import check_writable
from selfalign_jobs.accept.weights import read_weights
from selfalign_jobs.places import store
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.places.models import given_model
from selfalign_jobs.places.store import Folder
from selfalign_jobs.step.events import Events
from selfalign_jobs.step.points import Point
from selfalign_jobs.tracking.mlflow import MLflow, TrackedAs
from testbed.buckets import amazon, google

MODEL = Path(__file__).parents[2] / "examples/tiny-model/model"
FIELD = "spec.model.url"


@pytest.fixture(scope="module", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        amazon(tmp_path_factory.mktemp("s3")) as s3,
        google(tmp_path_factory.mktemp("gs")) as gs,
        pytest.MonkeyPatch.context() as patch,
    ):
        for server in (s3, gs):
            for name, value in server.environment.items():
                patch.setenv(name, value)
            server.bucket("runs")
            server.bucket("models")
            Folder.open(f"{server.scheme}://models").upload(MODEL, "tiny")
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


SCHEMES = pytest.mark.parametrize("scheme", ["s3", "gs"])


@SCHEMES
def test_a_model_is_looked_at_without_its_weights_and_fetched_whole(scheme: str) -> None:
    model = given_model(f"{scheme}://models/tiny", {}, Path())
    assert "model.safetensors" in model.names
    assert not (model.folder / "model.safetensors").exists()
    here = given_model(MODEL.as_uri(), {}, Path())
    assert read_weights(model) == read_weights(here)  # by the file's first bytes
    fetched = list_bucket(f"{scheme}://models/tiny", FIELD).fetch()
    assert fetched == model.folder
    assert (fetched / "model.safetensors").read_bytes() == (MODEL / "model.safetensors").read_bytes()


@SCHEMES
def test_the_digest_changes_with_the_content_of_an_object(scheme: str) -> None:
    folder = Folder.open(f"{scheme}://models/changing")
    folder.write("config.json", b"{}")
    before = list_bucket(f"{scheme}://models/changing", FIELD).digest
    assert list_bucket(f"{scheme}://models/changing", FIELD).digest == before
    folder.write("config.json", b"[]")
    assert list_bucket(f"{scheme}://models/changing", FIELD).digest != before


@SCHEMES
def test_one_object_is_a_file(scheme: str) -> None:
    found = list_bucket(f"{scheme}://models/tiny/config.json", FIELD).fetch()
    assert found.read_bytes() == (MODEL / "config.json").read_bytes()


@SCHEMES
def test_what_is_not_there_is_said(scheme: str) -> None:
    with pytest.raises(ConfigError, match="there is nothing in the bucket; write the URL of an object or a folder"):
        list_bucket(f"{scheme}://models/nobody", FIELD)


def test_wrong_keys_are_said_with_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigError, match=r"the bucket refuses us .* give its keys as AWS_ACCESS_KEY_ID"):
        list_bucket("s3://models/tiny/config.json", FIELD)
    with pytest.raises(ConfigError, match="the bucket refuses us"):
        check_writable(Folder.open("s3://runs/a"), "spec.storage.url")


@pytest.mark.parametrize(("scheme", "word"), [("s3", "NO_SUCH_BUCKET"), ("gs", "NOT_FOUND")])
def test_a_bucket_that_is_not_there_cannot_be_written(scheme: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"the bucket refuses us .*{word}"):
        check_writable(Folder.open(f"{scheme}://nowhere/a"), "spec.storage.url")


def test_a_server_that_does_not_answer_is_no_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="cannot be reached now"):
        list_bucket("s3://models/tiny/config.json", FIELD)


def test_without_credentials_googles_client_gives_up_with_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("HOME", str(tmp_path))  # where gcloud keeps a person's
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")  # where a machine of Google has its own
    monkeypatch.setattr("selfalign_jobs.places.store.GOOGLE_RETRY_SECONDS", 1)
    with pytest.raises(ConfigError, match=r"the bucket refuses us .* GOOGLE_APPLICATION_CREDENTIALS"):
        list_bucket("gs://models/tiny/config.json", FIELD)


@SCHEMES
def test_a_folder_is_deleted_with_all_that_is_in_it(scheme: str) -> None:
    folder = Folder.open(f"{scheme}://runs/deleted")
    for name in ("checkpoints/1/weights.bin", "checkpoints/1/rank/state.bin", "checkpoints/2/weights.bin"):
        folder.write(name, b"x")
    folder.delete("checkpoints/1")
    assert folder.files() == ["checkpoints/2/weights.bin"]
    assert not folder.exists("checkpoints/1")
    folder.delete("checkpoints/1")


@SCHEMES
def test_events_for_tensorboard_go_there_when_the_attempt_ends(scheme: str) -> None:
    folder = Folder.open(f"{scheme}://runs/events")
    events = Events(folder, 1)
    events.add([Point("train/loss", 1, 0.5, 0.0)])
    assert folder.files() == []
    events.close()
    (name,) = folder.files()
    assert b"train/loss" in folder.read(name)


@SCHEMES
def test_artefacts_of_a_tracked_run_go_straight_to_the_bucket_where_their_server_keeps_them(scheme: str) -> None:
    run = TrackedAs("1", f"{scheme}://runs/mlflow/1/artifacts", "RUNNING")
    MLflow("http://127.0.0.1:9", {}).upload(run, "model/README.md", b"the card")
    assert Folder.open(run.artifacts).read("model/README.md") == b"the card"


@SCHEMES
def test_a_copy_that_breaks_off_leaves_no_object(scheme: str) -> None:
    target = Folder.open(f"{scheme}://runs/copies")

    def begin() -> None:
        with target.writing("weights.bin") as file:
            file.write(b"the beginning")
            raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        begin()
    assert target.files() == []


@SCHEMES
def test_an_object_is_whole_whatever_ranges_it_is_fetched_in(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    source = Folder.open(f"{scheme}://runs/ranges")
    contents = {f"{size}.bin": random.Random(size).randbytes(size) for size in (0, 1, 999, 1000, 1001, 25_500)}
    for name, content in contents.items():
        source.write(name, content)
    fetched = Folder.open(f"{scheme}://runs").download("ranges", tmp_path / "here")
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == contents


def test_a_fetch_that_breaks_off_leaves_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    source = Folder.open("s3://runs/broken")
    for number in range(6):
        source.write(f"{number}.bin", bytes([number]) * 20_000)
    pwrite, written = os.pwrite, itertools.count()

    def full(file: int, content: bytes, offset: int) -> int:
        if next(written) > 70:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, content, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        Folder.open("s3://runs").download("broken", tmp_path / "here")
    for file in (tmp_path / "here").iterdir():
        assert file.read_bytes() == bytes([int(file.stem)]) * 20_000


COUNTED = """
import sys
from pathlib import Path
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.places.store import Folder
copy, copied = Folder.copy, []
Folder.copy = lambda self, source, name: (copied.append(name), copy(self, source, name))
list_bucket("s3://models/tiny", "url").fetch()
print(len(copied))
"""


def test_several_engines_of_a_machine_fetch_a_model_once() -> None:
    names = list_bucket("s3://models/tiny", FIELD).names
    path = os.pathsep.join(path for path in sys.path if path)
    engines = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTED], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
        )
        for _ in range(3)
    ]
    counts = [int(engine.communicate()[0]) for engine in engines]
    assert sum(counts) == len(names)
