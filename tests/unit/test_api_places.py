"""Places: what a URL names, and where that is on this machine."""

from pathlib import Path, PurePosixPath

import pytest

from selfalign_api.errors import ConfigError
from selfalign_api.places import (
    Bucket,
    Claim,
    Folder,
    HubDataset,
    HubModel,
    Place,
    Relative,
    local_path,
    mounts_from,
    parse_place,
)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("hf://google/gemma-2-9b-it", HubModel("google/gemma-2-9b-it")),
        ("hf://google/gemma-2-9b-it@main", HubModel("google/gemma-2-9b-it", "main")),
        ("hf://org/model@refs/pr/1", HubModel("org/model", "refs/pr/1")),
        ("hf://gpt2", HubModel("gpt2")),
        ("hf://datasets/org/rows", HubDataset("org/rows")),
        ("hf://datasets/org/rows@v1", HubDataset("org/rows", "v1")),
        ("hf://datasets/org/rows/data/a.json", HubDataset("org/rows", None, "data/a.json")),
        ("hf://datasets/org/rows@v1/a.json", HubDataset("org/rows", "v1", "a.json")),
        ("s3://bucket/a/b", Bucket("s3", "bucket", "a/b")),
        ("gs://bucket", Bucket("gs", "bucket", "")),
        ("pvc://claim/a/b", Claim("claim", "a/b")),
        ("pvc://claim", Claim("claim", "")),
        ("file:///a/b", Folder(PurePosixPath("/a/b"))),
        ("./a/b", Relative(PurePosixPath("a/b"))),
        ("../a", Relative(PurePosixPath("../a"))),
    ],
)
def test_a_url_names_a_place(url: str, place: Place) -> None:
    assert parse_place(url) == place


NOTATION = (
    "is no place; write hf://ORG/NAME, s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, file:///PATH, "
    "or ./PATH for a path beside the run file"
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("org/model", NOTATION),
        ("https://host/a", NOTATION),
        ("s3:///a", NOTATION),
        ("/a/b", "is no place; write file:///a/b or ./PATH beside the run file"),
        ("file://a/b", "has no absolute path; write file:///a/b or ./a/b"),
        ("pvc:///a", "names no claim; write pvc://CLAIM/PATH"),
        ("pvc://claim/../a", "must stay inside its claim; write pvc://CLAIM/PATH without .."),
        ("hf://a/b/c", "is no model of the hub; write hf://ORG/NAME or hf://ORG/NAME@REVISION"),
        (
            "hf://datasets/",
            "is no dataset of the hub; write hf://datasets/ORG/NAME, with @REVISION or /FILE after it if need be",
        ),
    ],
)
def test_what_names_no_place_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_place(url, "spec.model.url")
    assert str(caught.value) == f"spec.model.url: {url} {said}"


def test_files_of_this_machine_have_a_path() -> None:
    beside, mounts = Path("/runs"), {"claim": "/mnt/claim"}
    assert local_path("pvc://claim/a/b", mounts, beside) == Path("/mnt/claim/a/b")
    assert local_path("pvc://claim", mounts, beside) == Path("/mnt/claim")
    assert local_path("file:///a", mounts, beside) == Path("/a")
    assert local_path("./a", mounts, beside) == Path("/runs/a")


def test_a_claim_that_is_not_mounted_is_told_how() -> None:
    with pytest.raises(ConfigError) as caught:
        local_path("pvc://claim/a", {}, Path("/runs"), "spec.model.url")
    assert str(caught.value) == (
        "spec.model.url: pvc://claim/a: claim claim is not mounted here; write --mount claim=DIR, "
        "or SELFALIGN_MOUNTS=claim=DIR"
    )


def test_a_place_elsewhere_is_no_file_of_this_machine() -> None:
    with pytest.raises(ConfigError, match="is not a file of this machine"):
        local_path("s3://bucket/a", {}, Path("/runs"))


def test_mounts_come_from_the_options_and_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path)
    mounts = mounts_from(["a=two"], {"SELFALIGN_MOUNTS": f"a={tmp_path}/one,b={tmp_path}/one"})
    assert mounts == {"a": str(tmp_path / "two"), "b": str(tmp_path / "one")}


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("claim", "--mount: claim is not a mount; write CLAIM=DIR"),
        ("=/", "--mount: =/ is not a mount; write CLAIM=DIR"),
        ("a=/no/such", "--mount: a=/no/such names no folder; make /no/such or write another"),
    ],
)
def test_what_is_no_mount_is_refused(option: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mounts_from([option], {})
    assert str(caught.value) == line
