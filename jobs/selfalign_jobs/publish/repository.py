"""A repository of the Hugging Face hub as what a result is published to: uploaded file by file, committed at once.

What was uploaded before a kill is not sent again (the hub knows it by its digest), and until the commit nobody sees any of
it. huggingface_hub does the work; its variables are HF_TOKEN and HF_ENDPOINT.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.fs as pafs

from selfalign_api.errors import ConfigError
from selfalign_api.places import HubDataset, HubModel
from selfalign_jobs.places.store import Folder

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

SMALL_BYTES = 16 << 20  # of a file that waits in memory for its commit; the hub takes no more than 10 MB so
OWN = frozenset({".gitattributes"})  # what the hub puts into a repository by itself
TOKEN = (
    "a token that may write (HF_TOKEN; on a cluster a Secret in credentials: [{urlPrefix: hf://, secretName: NAME}])"
)


@dataclass(frozen=True)
class Repository:
    """What is published so far; `at` is the field that named it. Folders inside share their commit."""

    repo: str
    kind: Literal["model", "dataset"]
    visibility: Literal["Private", "Public"]
    at: str
    below: str = ""
    additions: dict[str, CommitOperationAdd] = field(default_factory=dict)

    @classmethod
    def of(cls, place: HubModel | HubDataset, visibility: Literal["Private", "Public"], at: str) -> Repository:
        """The repository that an output's URL names."""
        return cls(place.repo, "model" if isinstance(place, HubModel) else "dataset", visibility, at)

    def refuse_strangers(self) -> None:
        """ConfigError where the token cannot write there, as far as it says; ConnectionError when the hub cannot be reached."""
        from huggingface_hub import HfApi

        with self._refused():
            who = HfApi().whoami()
        organisation, token = self.repo.partition("/")[0], who.get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise ConfigError.one(self.at, f"the token of {who['name']} may only read; give {TOKEN}")
        if organisation not in {who["name"], *(each["name"] for each in who.get("orgs", ()))}:
            said = f"the token is {who['name']}'s, who is not of {organisation}; write an organisation of theirs, or give {TOKEN}"
            raise ConfigError.one(self.at, said)

    def files(self) -> list[str]:
        """Names of the files that are there; none where it is still to be made."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._refused():
            try:
                return sorted({*HfApi().list_repo_files(self.repo, repo_type=self.kind)} - OWN)
            except RepositoryNotFoundError:
                return []

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        from huggingface_hub import hf_hub_download

        with self._refused(), tempfile.TemporaryDirectory() as here:
            return Path(hf_hub_download(self.repo, name, repo_type=self.kind, local_dir=here)).read_bytes()

    def make(self) -> None:
        """Make it where it is not there."""
        from huggingface_hub import HfApi

        with self._refused():
            HfApi().create_repo(self.repo, repo_type=self.kind, private=self.visibility == "Private", exist_ok=True)

    def child(self, name: str) -> Repository:
        """A folder inside."""
        return Repository(self.repo, self.kind, self.visibility, self.at, f"{self.below}{name}/", self.additions)

    def write(self, name: str, content: bytes) -> None:
        """A small file."""
        self._add(name, content)

    def copy(self, source: Folder, name: str) -> None:
        """A file of another folder under the same name; one of a bucket lies on this machine meanwhile."""
        if source.local is not None:
            self._add(name, source.local / name)
            return
        with tempfile.TemporaryDirectory() as scratch:
            here = Folder(pafs.LocalFileSystem(), scratch)
            here.copy(source, name)
            self._add(name, Path(scratch, name))

    def write_table(self, name: str, table: pa.Table) -> None:
        """A table as one Parquet file."""
        with tempfile.TemporaryDirectory() as scratch:
            Folder(pafs.LocalFileSystem(), scratch).write_table(name, table)
            self._add(name, Path(scratch, name))

    def _add(self, name: str, content: bytes | Path) -> None:
        """Upload what the hub wants by itself; the rest goes with the commit."""
        from huggingface_hub import CommitOperationAdd, HfApi

        if isinstance(content, Path) and content.stat().st_size <= SMALL_BYTES:
            content = content.read_bytes()
        added = CommitOperationAdd(f"{self.below}{name}", content)
        with self._refused():
            HfApi().preupload_lfs_files(self.repo, [added], repo_type=self.kind, free_memory=False)
        self.additions[added.path_in_repo] = added

    def commit(self, message: str) -> None:
        """What was added becomes the repository's content, all of it at once; where it is already, nothing happens."""
        from huggingface_hub import HfApi

        with self._refused():
            HfApi().create_commit(self.repo, [*self.additions.values()], repo_type=self.kind, commit_message=message)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        """What the hub refuses for good, in words that say what to write; else ConnectionError, which may pass."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

        try:
            yield
        except LocalTokenNotFoundError as error:
            raise ConfigError.one(self.at, f"the hub takes nothing without a token; give {TOKEN}") from error
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in (401, 403):
                said = f"the hub lets this token not write to {self.kind} {self.repo}; give {TOKEN}"
                raise ConfigError.one(self.at, said) from error
            raise ConnectionError(f"{self.at}: the hub does not take it now: {error}") from error
        except (HTTPError, OSError) as error:
            raise ConnectionError(f"{self.at}: the hub cannot be reached now: {error}") from error
