"""Places: what a URL names, and where that is on this machine."""

import os
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.places import (
    Bucket,
    Claim,
    Folder,
    HubDataset,
    HubModel,
    Place,
    Relative,
    absolute,
    file_url,
    local_path,
    meant,
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
        ("file:///a%20b/f%C3%BCr%23%25", Folder(PurePosixPath("/a b/für#%"))),
        ("file:///a b/für#?100% 'x'", Folder(PurePosixPath("/a b/für#?100% 'x'"))),
        ("pvc://claim/a%20b/c d", Claim("claim", "a%20b/c d")),
        ("./a%20b/c d#", Relative(PurePosixPath("a%20b/c d#"))),
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
        ("file:///a%00b", "has a character that no path has: %00; remove it"),
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


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: PurePosixPath("/", *names))


@given(PATHS)
def test_every_path_is_read_back_from_its_url(path: PurePosixPath) -> None:
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        path = PurePosixPath(os.fsdecode(os.fsencode(str(path).encode("utf-8", "replace"))))
    url = file_url(path)
    assert url.isascii()
    assert parse_place(url) == Folder(path)
    assert local_path(url, {}) == Path(path)
    assert absolute(url, Path("/beside")) == url


@given(
    st.binary(min_size=1, max_size=8).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    )
)
def test_a_name_that_is_no_text_is_read_back_too(name: bytes) -> None:
    path = PurePosixPath("/", os.fsdecode(name))
    assert parse_place(file_url(path)) == Folder(path)


@given(PATHS.filter(lambda path: not re.search("%[0-9a-fA-F]{2}|[\ud800-\udfff]", str(path))))
def test_a_path_that_is_written_as_it_is_is_meant_so(path: PurePosixPath) -> None:
    assert parse_place(f"file://{path}") == Folder(path)


@pytest.mark.parametrize(
    ("text", "hub", "place"),
    [
        ("google/gemma-2-9b-it", "hf://ORG/NAME", "hf://google/gemma-2-9b-it"),
        ("https://huggingface.co/google/gemma-2-9b-it", "hf://ORG/NAME", "hf://google/gemma-2-9b-it"),
        ("https://huggingface.co/a/b/tree/main", "hf://ORG/NAME", "hf://a/b"),
        ("https://hf.co/a/b/resolve/v1/model.safetensors", "hf://ORG/NAME", "hf://a/b@v1"),
        ("https://huggingface.co/datasets/a/b/", "hf://datasets/ORG/NAME", "hf://datasets/a/b"),
        ("a/b.jsonl", "hf://datasets/ORG/NAME", "./a/b.jsonl"),
        ("people.txt", "hf://datasets/ORG/NAME", "./people.txt"),
        ("/models/my model", "hf://ORG/NAME", "file:///models/my%20model"),
        ("~/models/a", "hf://ORG/NAME", None),
        ("https://example.com/a/b", "hf://ORG/NAME", None),
        ("./models/a", "hf://ORG/NAME", None),
        ("", "hf://ORG/NAME", None),
    ],
)
def test_what_somebody_means_who_writes_a_name_a_page_or_a_path(text: str, hub: str, place: str | None) -> None:
    assert meant(text, hub) == place
    assert place is None or parse_place(place)


def test_no_other_place_of_the_sources_makes_urls_of_paths() -> None:
    root = Path(__file__).parents[2]
    sources = [file for folder in ("crds", "jobs", "operator") for file in (root / folder).rglob("*.py")]
    makers = [file.name for file in sources if re.search(r"\.as_uri\(|f\"file://", file.read_text(encoding="utf-8"))]
    assert makers == ["places.py"]


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
