"""Buckets on a real S3 server: what is there, what is refused, and that nothing is ever half written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign_api.errors import ConfigError
from selfalign_jobs.accept import check_writable
from selfalign_jobs.bucket import list_bucket
from selfalign_jobs.models import given_model
from selfalign_jobs.store import Folder
from testbed.buckets import Buckets, buckets

MODEL = Path(__file__).parents[2] / "examples/tiny-model/model"
FIELD = "spec.model.url"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    folder = tmp_path_factory.mktemp("s3")
    with buckets(folder / "root", folder / "log.txt") as found:
        shutil.copytree(MODEL, found.bucket("models") / "tiny")
        found.bucket("runs")
        yield found


@pytest.fixture(autouse=True)
def keys(server: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (server.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)


def test_a_model_is_looked_at_without_its_weights_and_fetched_whole() -> None:
    model = given_model("s3://models/tiny", {}, Path())
    assert "model.safetensors" in model.names
    assert not (model.folder / "model.safetensors").exists()
    fetched = list_bucket("s3://models/tiny", FIELD).fetch()
    assert fetched == model.folder
    assert (fetched / "model.safetensors").read_bytes() == (MODEL / "model.safetensors").read_bytes()


def test_the_digest_changes_with_the_content_of_an_object() -> None:
    folder = Folder.open("s3://models/changing")
    folder.write("config.json", b"{}")
    before = list_bucket("s3://models/changing", FIELD).digest
    assert list_bucket("s3://models/changing", FIELD).digest == before
    folder.write("config.json", b"[]")
    assert list_bucket("s3://models/changing", FIELD).digest != before


def test_one_object_is_a_file() -> None:
    found = list_bucket("s3://models/tiny/config.json", FIELD).fetch()
    assert found.read_bytes() == (MODEL / "config.json").read_bytes()


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="there is nothing in the bucket; write the URL of an object or a folder"):
        list_bucket("s3://models/nobody", FIELD)


def test_wrong_keys_are_said_with_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigError, match=r"the bucket refuses us .* give its keys as AWS_ACCESS_KEY_ID"):
        list_bucket("s3://models/tiny/config.json", FIELD)
    with pytest.raises(ConfigError, match="the bucket refuses us"):
        check_writable("s3://runs/a", "spec.storage.url")


def test_a_bucket_that_is_not_there_cannot_be_written() -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_BUCKET"):
        check_writable("s3://nowhere/a", "spec.storage.url")


def test_a_server_that_does_not_answer_is_no_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="cannot be reached now"):
        list_bucket("s3://models/tiny/config.json", FIELD)


def test_a_copy_that_breaks_off_leaves_no_object() -> None:
    target = Folder.open("s3://runs/copies")

    def chunks() -> Iterator[bytes]:
        yield b"the beginning"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        target._commit("weights.bin", chunks())
    assert target.files() == []
