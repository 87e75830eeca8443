"""The Hugging Face hub: models and datasets, pinned to a commit when a run is accepted, fetched where they are read.

huggingface_hub does the work, by its own variables: HF_TOKEN, HF_HOME (where what was fetched stays), HF_ENDPOINT.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.places import HubDataset, HubModel

RepoType = Literal["model", "dataset"]
# What of a model's repository is a model: no second copy of the weights in another format, no pictures.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "*.tiktoken")
NOT_MODEL_FILES = ("original/*", "onnx/*", "*.md")
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Pinned:
    """A repository at one commit, and the names of its files there."""

    repo: str
    commit: str
    names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The commit is a digest of all content."""
        return f"commit:{self.commit}"


def pin(place: HubModel | HubDataset, field: str) -> Pinned:
    """The commit that the place's revision is now. Raises ConfigError or ConnectionError (`_refused`)."""
    from huggingface_hub import HfApi

    kind: RepoType = "model" if isinstance(place, HubModel) else "dataset"
    with _refused(place.repo, kind, place.revision, field):
        info = HfApi().repo_info(place.repo, repo_type=kind, revision=place.revision)
    return Pinned(place.repo, info.sha, tuple(sorted(file.rfilename for file in info.siblings)))


def fetch_small(pinned: Pinned, field: str) -> Path:
    """A folder with a model's config, tokenizer and templates, without its weights; raises as `pin`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # of kilobytes
    wanted, ignored = list(MODEL_FILES), [*NOT_MODEL_FILES, WEIGHTS]
    with _refused(pinned.repo, "model", pinned.commit, field):
        folder = snapshot_download(pinned.repo, revision=pinned.commit, allow_patterns=wanted, ignore_patterns=ignored)
    return Path(folder)


def fetch_model(repo: str, commit: str) -> Path:
    """A folder with the model, fetched unless it is here. In a process of its own: an engine's must not reach the hub.

    Raises RuntimeError when it cannot be had; what was fetched so far stays, and the next try goes on.
    """
    command = [sys.executable, "-m", "selfalign_jobs.places.hub", repo, commit]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{repo} at {commit} could not be fetched from the hub; what it said is in the log")
    return Path(done.stdout.splitlines()[-1])


def fetch_file(place: HubDataset, field: str) -> Path:
    """One file of a dataset."""
    from huggingface_hub import hf_hub_download

    assert place.file is not None
    with _refused(place.repo, "dataset", place.revision, field):
        return Path(hf_hub_download(place.repo, place.file, repo_type="dataset", revision=place.revision))


def read_dataset(place: HubDataset, subset: str | None, split: str, field: str) -> pa.Table:
    """One split of a dataset as a table, its files found by `datasets`, whatever their format."""
    import datasets

    datasets.disable_progress_bars()
    with _refused(place.repo, "dataset", place.revision, field):
        try:
            found = datasets.load_dataset(place.repo, subset, split=split, revision=place.revision)
        except (ValueError, datasets.exceptions.DatasetNotFoundError) as error:  # a subset or a split that is not there
            message = f"the hub's dataset {place.repo} cannot be read so: {error}"
            raise ConfigError.one(field, message) from error
        return pa.concat_tables(found.with_format("arrow").iter(batch_size=10_000)) if len(found) else pa.table({})


@contextmanager
def _refused(repo: str, kind: RepoType, revision: str | None, field: str) -> Iterator[None]:
    """What the hub refuses for good, in words that say what to write; else ConnectionError, which may pass."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    token = "a token (HF_TOKEN; on a cluster a Secret in credentials: [{urlPrefix: hf://, secretName: NAME}])"
    try:
        yield
    except GatedRepoError as error:
        said = f"{repo} is open to those who accepted its terms: accept them on its page, and give {token}"
        raise ConfigError.one(field, said) from error
    except RepositoryNotFoundError as error:
        said = f"the hub shows no {kind} {repo} to us; write one that is there, or give {token}"
        raise ConfigError.one(field, said) from error
    except RevisionNotFoundError as error:
        raise ConfigError.one(field, f"{repo} has no revision {revision}; write a branch, a tag or a commit") from error
    except EntryNotFoundError as error:
        raise ConfigError.one(field, f"{repo} has no such file; write the name of one that is there") from error
    except (HTTPError, OSError) as error:
        raise ConnectionError(f"{field}: the hub cannot be reached now: {error}") from error


def main(arguments: Sequence[str]) -> int:
    """`python -m selfalign_jobs.places.hub REPO COMMIT`: fetch a model, print its folder."""
    from huggingface_hub import snapshot_download

    repo, commit = arguments
    wanted, ignored = list(MODEL_FILES), list(NOT_MODEL_FILES)
    print(snapshot_download(repo, revision=commit, allow_patterns=wanted, ignore_patterns=ignored))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
