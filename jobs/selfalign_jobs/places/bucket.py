"""Buckets (`s3://`, `gs://`) as sources: what lies at a URL there, and copies of it on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from selfalign_api.errors import ConfigError
from selfalign_jobs.machine import cache_folder
from selfalign_jobs.places.store import Folder, fetch, filesystem_of

# As the clients of Amazon and of Google name what no second try mends, and what mends it.
AMAZON_REFUSES = (
    "ACCESS_DENIED",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "NO_SUCH_BUCKET",
)
GOOGLE_REFUSES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND", "Could not create a OAuth2 access token")
MENDS = {
    "s3": "give its keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on a cluster in a Secret that credentials: "
    "[{urlPrefix: s3://BUCKET, secretName: NAME}] names",
    "gs": "name a service account's key file in GOOGLE_APPLICATION_CREDENTIALS, on a cluster give the pods by "
    "compute.podTemplate a serviceAccountName that may open it (docs/one-machine.md, Places)",
}


@dataclass(frozen=True)
class Listing:
    """The objects at a URL, and what identifies their content."""

    folder: Folder  # that the names are relative to
    names: tuple[str, ...]  # sorted
    is_object: bool  # the URL names one object, not a folder of them
    digest: str
    sizes: dict[str, int]

    def fetch(self, wanted: Callable[[str], bool] = lambda _: True) -> Path:
        """The wanted objects on this machine (one object: the file), each whole; what is here is not fetched again."""
        target = cache_folder("fetched") / self.digest.removeprefix("sha256:")[:32]
        fetch(self.folder, filter(wanted, self.names), target)
        return target / self.names[0] if self.is_object else target

    def read_start(self, name: str, count: int) -> bytes:
        """So many of the first bytes of an object."""
        with self.folder.filesystem.open_input_file(f"{self.folder.path}/{name}") as file:
            return bytes(file.read(count))


def list_bucket(url: str, field: str) -> Listing:
    """What lies at a URL.

    Raises ConfigError at `field` when nothing does or the bucket refuses us, ConnectionError when it cannot be read now.
    """
    with reading(url, field):
        return _list(url, field)


@contextmanager
def reading(url: str, field: str) -> Iterator[None]:
    """What a bucket refuses for good, in words that say what to write; else ConnectionError, which may pass."""
    try:
        yield
    except (pa.ArrowInvalid, ValueError) as error:
        raise ConfigError.one(field, f"no bucket can be opened by it: {error}", url) from error
    except OSError as error:
        if any(word in str(error) for word in (*AMAZON_REFUSES, *GOOGLE_REFUSES)):
            message = f"the bucket refuses us ({error}); {MENDS[url.partition('://')[0]]}"
            raise ConfigError.one(field, message, url) from error
        raise ConnectionError(f"{field}: {url} cannot be reached now: {error}") from error


def _list(url: str, field: str) -> Listing:
    filesystem, path = filesystem_of(url)
    path = path.rstrip("/")
    info = filesystem.get_file_info(path)
    is_object = info.type == pafs.FileType.File
    if is_object:
        folder, infos = Folder(filesystem, path.rpartition("/")[0]), [info]
    else:
        found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        folder, infos = Folder(filesystem, path), [entry for entry in found if entry.type == pafs.FileType.File]
    if not infos:
        raise ConfigError.one(field, "there is nothing in the bucket; write the URL of an object or a folder", url)
    objects = {info.path[len(folder.path) + 1 :]: info for info in infos}
    sizes = {name: info.size for name, info in objects.items()}
    return Listing(folder, tuple(sorted(objects)), is_object, _digest(filesystem, objects), sizes)


def _digest(filesystem: pafs.FileSystem, objects: dict[str, pafs.FileInfo]) -> str:
    """Of names, sizes and what servers say of the content (Amazon an ETag, Google a checksum): weights need not be read."""
    whole = hashlib.sha256()
    for name, info in sorted(objects.items()):
        with filesystem.open_input_stream(info.path) as stream:
            said = stream.metadata()
        tag = said.get("ETag") or said.get("crc32c") or str(info.mtime_ns).encode()
        whole.update(f"{name}\0{info.size}\0".encode() + tag + b"\n")
    return "sha256:" + whole.hexdigest()
