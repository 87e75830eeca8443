"""Places: one notation for where models, data and artefacts are, on a cluster and on one machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote_to_bytes

from selfalign_api.errors import ConfigError

__all__ = [
    "Bucket",
    "Claim",
    "Folder",
    "HubDataset",
    "HubModel",
    "Place",
    "Relative",
    "absolute",
    "file_url",
    "local_path",
    "meant",
    "mounts_from",
    "parse_place",
]

NOTATION = (
    "write hf://ORG/NAME, s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, file:///PATH, "
    "or ./PATH for a path beside the run file"
)
MOUNTS_VARIABLE = "SELFALIGN_MOUNTS"
_HUB_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = re.compile(rf"(?P<repo>{_HUB_NAME}(/{_HUB_NAME})?)(@(?P<revision>[^/@]+))?(/(?P<file>.+))?")
_HUB_MODEL = re.compile(rf"(?P<repo>{_HUB_NAME}(/{_HUB_NAME})?)(@(?P<revision>[^@]+))?")
# What people write for it: the name alone, or the address of its page.
_PAGE = re.compile(rf"(?P<repo>{_HUB_NAME}/{_HUB_NAME})(/(tree|blob|resolve)/(?P<revision>[^/]+).*)?/?")
_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt", ".jinja", ".gz", ".zst")


@dataclass(frozen=True)
class HubModel:
    """`hf://ORG/NAME[@REVISION]`."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True)
class HubDataset:
    """`hf://datasets/ORG/NAME[@REVISION][/FILE]`."""

    repo: str
    revision: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Bucket:
    """`s3://BUCKET/PATH` or `gs://BUCKET/PATH`."""

    scheme: str
    bucket: str
    path: str


@dataclass(frozen=True)
class Claim:
    """`pvc://CLAIM/PATH`: a path inside a volume claim, written as it is."""

    claim: str
    path: str


@dataclass(frozen=True)
class Folder:
    """`file:///PATH`: an absolute path of the pod or the machine; %20 in the URL is a space, as in any."""

    path: PurePosixPath


@dataclass(frozen=True)
class Relative:
    """`./PATH`: beside the run file; on one machine only."""

    path: PurePosixPath


Place = HubModel | HubDataset | Bucket | Claim | Folder | Relative


def parse_place(url: str, field: str = "url") -> Place:
    """The place that `url` names. Raises ConfigError at `field` when it is none."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        if url.startswith(("./", "../")):
            return Relative(PurePosixPath(url))
        hint = f"write file://{url} or ./PATH beside the run file" if url.startswith("/") else NOTATION
        raise ConfigError.one(field, f"is no place; {hint}", url)
    if scheme == "hf":
        return _hub(url, rest, field)
    if scheme in ("s3", "gs"):
        bucket, _, path = rest.partition("/")
        if bucket:
            return Bucket(scheme, bucket, path)
    if scheme == "pvc":
        return _claim(url, rest, field)
    if scheme == "file":
        if rest.startswith("/"):
            return Folder(_path_in(rest, url, field))
        raise ConfigError.one(field, f"has no absolute path; write file:///{rest} or ./{rest}", url)
    raise ConfigError.one(field, f"is no place; {NOTATION}", url)


def local_path(url: str, mounts: Mapping[str, str], relative_to: Path = Path(), field: str = "url") -> Path:
    """Where a pvc, file or relative place is on this machine; `mounts` maps claim to folder. It need not exist.

    Raises ConfigError at `field`: no such notation, a claim without a mount, a place that is no file of this machine.
    """
    match parse_place(url, field):
        case Claim(claim, path):
            if claim not in mounts:
                said = f"claim {claim} is not mounted here; write --mount {claim}=DIR, or {MOUNTS_VARIABLE}={claim}=DIR"
                raise ConfigError.one(field, said, url)
            return Path(mounts[claim]) / path
        case Folder(absolute):
            return Path(absolute)
        case Relative(path_beside):
            return relative_to / path_beside
    raise ConfigError.one(field, "is not a file of this machine; write pvc://CLAIM/PATH, file:///PATH or ./PATH", url)


def meant(text: str, hub: str) -> str | None:
    """The place in our notation that somebody means who writes a hub's name or page, or a path; `hub`: as it is written there."""
    name = text.removeprefix("https://huggingface.co/").removeprefix("https://hf.co/")
    name, of_page = name.removeprefix("datasets/"), name != text
    found = _PAGE.fullmatch(name)
    prefix = "hf://datasets/" if hub.startswith("hf://datasets/") else "hf://"
    if found and (of_page or (found[0] == name and PurePosixPath(name).suffix.lower() not in _FILES)):
        revision = found["revision"]
        return f"{prefix}{found['repo']}" + (f"@{revision}" if revision not in (None, "main") else "")
    if "://" in text or text.startswith(("~", ".")):
        return None
    return file_url(PurePosixPath(text)) if text.startswith("/") else f"./{text}" if text else None


def file_url(path: PurePath) -> str:
    """The URL of an absolute path, whatever characters it has: what `parse_place` reads back as that path."""
    return path.as_uri()


def _path_in(rest: str, url: str, field: str) -> PurePosixPath:
    """The path of a file URL; a % that begins no escape stands for itself, as #, ? and spaces do."""
    path = os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogateescape")))
    if "\0" in path:
        raise ConfigError.one(field, "has a character that no path has: %00; remove it", url)
    return PurePosixPath(path)


def absolute(url: str, beside: Path) -> str:
    """The URL, for whoever does not know where the run file lies: a path beside it becomes file://."""
    return file_url((beside / url).resolve()) if url.startswith(".") else url


def mounts_from(options: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Claim → absolute folder, from `--mount CLAIM=DIR` options and SELFALIGN_MOUNTS (`CLAIM=DIR,CLAIM=DIR`).

    An option wins over the variable. Raises ConfigError when one is not CLAIM=DIR or DIR is no folder.
    """
    given = [(MOUNTS_VARIABLE, text) for text in environment.get(MOUNTS_VARIABLE, "").split(",") if text]
    given += [("--mount", text) for text in options]
    mounts: dict[str, str] = {}
    for origin, text in given:
        claim, separator, folder = text.partition("=")
        if not (claim and separator and folder):
            raise ConfigError.one(origin, "is not a mount; write CLAIM=DIR", text)
        if not Path(folder).is_dir():
            raise ConfigError.one(origin, f"names no folder; make {folder} or write another", text)
        mounts[claim] = str(Path(folder).resolve())
    return mounts


def _hub(url: str, rest: str, field: str) -> HubModel | HubDataset:
    if rest.startswith("datasets/"):
        found = _HUB.fullmatch(rest.removeprefix("datasets/"))
        if found is None:
            said = "is no dataset of the hub; write hf://datasets/ORG/NAME, with @REVISION or /FILE after it if need be"
            raise ConfigError.one(field, said, url)
        return HubDataset(found["repo"], found["revision"], found["file"])
    found = _HUB_MODEL.fullmatch(rest)
    if found is None:
        raise ConfigError.one(field, "is no model of the hub; write hf://ORG/NAME or hf://ORG/NAME@REVISION", url)
    return HubModel(found["repo"], found["revision"])


def _claim(url: str, rest: str, field: str) -> Claim:
    claim, _, path = rest.partition("/")
    if not claim:
        raise ConfigError.one(field, "names no claim; write pvc://CLAIM/PATH", url)
    if ".." in PurePosixPath(path).parts or path.startswith("/"):
        raise ConfigError.one(field, "must stay inside its claim; write pvc://CLAIM/PATH without ..", url)
    return Claim(claim, path)
