"""The Hugging Face hub: models and datasets, pinned to a commit when a run is accepted, fetched where they are read.

huggingface_hub does the work, by its own variables: HF_TOKEN, HF_HOME (where what was fetched stays), HF_ENDPOINT.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from selfalign_api.errors import ConfigError
from selfalign_api.places import HubDataset, HubModel, parse_place
from selfalign_jobs.machine import cache_folder
from selfalign_jobs.places.tables.files import is_table

RepoType = Literal["model", "dataset"]
# What of a model's repository is a model: no second copy of the weights in another format, no pictures.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "*.tiktoken")
NOT_MODEL_FILES = ("original/*", "onnx/*", "*.md")
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Pinned:
    """A repository at one commit, and the sizes of its files there."""

    repo: str
    commit: str
    sizes: dict[str, int]

    @property
    def digest(self) -> str:
        """The commit is a digest of all content."""
        return f"commit:{self.commit}"


def pin(place: HubModel | HubDataset, field: str) -> Pinned:
    """The commit that the place's revision is now. Raises ConfigError or ConnectionError (`_refused`)."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    kind: RepoType = "model" if isinstance(place, HubModel) else "dataset"
    of_files = kind == "model"  # whose sizes are held against what the files say of themselves
    with _refused(place.repo, kind, place.revision, field):
        info = HfApi().repo_info(place.repo, repo_type=kind, revision=place.revision, files_metadata=of_files)
        sizes = {file.rfilename: file.size for file in info.siblings}
        for name in [
            name for name, size in sizes.items() if of_files and size is None
        ]:  # a hub that keeps it to itself
            sizes[name] = get_hf_file_metadata(hf_hub_url(place.repo, name, revision=info.sha)).size
    return Pinned(place.repo, info.sha, {name: size or 0 for name, size in sizes.items()})


def fetch_small(pinned: Pinned, field: str) -> Path:
    """A folder with a model's config, tokenizer and templates, without its weights; raises as `pin`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # of kilobytes
    wanted, ignored = list(MODEL_FILES), [*NOT_MODEL_FILES, WEIGHTS]
    with _refused(pinned.repo, "model", pinned.commit, field):
        folder = snapshot_download(pinned.repo, revision=pinned.commit, allow_patterns=wanted, ignore_patterns=ignored)
    return Path(folder)


def read_start(pinned: Pinned, field: str, name: str, count: int) -> bytes:
    """So many of the first bytes of a model's file, and no more of it than that; raises as `pin`."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    url = hf_hub_url(pinned.repo, name, revision=pinned.commit)
    headers = build_hf_headers() | {"Range": f"bytes=0-{count - 1}"}
    with (
        _refused(pinned.repo, "model", pinned.commit, field),
        get_session().stream("GET", url, headers=headers) as answer,
    ):
        if answer.is_error:
            answer.read()
        hf_raise_for_status(answer)
        found = b""
        for chunk in answer.iter_bytes():
            found += chunk
            if len(found) >= count:  # a server that knows no ranges would go on
                break
    return found[:count]


def fetch_model(repo: str, commit: str) -> Path:
    """A folder with the model, fetched unless it is here. In a process of its own: an engine's must not reach the hub.

    Raises RuntimeError when it cannot be had; what was fetched so far stays, and the next try goes on.
    """
    command = [sys.executable, "-m", "selfalign_jobs.places.hub", repo, commit]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        said = done.stdout.splitlines()[-1:] or ["it was killed"]
        raise RuntimeError(f"{repo} at {commit} could not be fetched from the hub: {said[0]}")
    return Path(done.stdout.splitlines()[-1])


def fetch_file(place: HubDataset, field: str) -> Path:
    """One file of a dataset."""
    from huggingface_hub import hf_hub_download

    assert place.file is not None
    with _refused(place.repo, "dataset", place.revision, field):
        return Path(hf_hub_download(place.repo, place.file, repo_type="dataset", revision=place.revision))


def dataset_files(place: HubDataset, subset: str | None, split: str, field: str) -> list[Path]:
    """One file, or those of a split, as they lie on the hub where they are tables; else one that `datasets` makes of them.

    `datasets` guesses the types of CSV and JSON and writes 007 as 7, so it only finds the files. Raises as `pin`, and
    ConfigError for a subset or a split that is not there.
    """
    if place.file is not None:
        return [fetch_file(place, field)]
    import datasets

    datasets.disable_progress_bars()
    with _refused(place.repo, "dataset", place.revision, field):
        try:
            builder = datasets.load_dataset_builder(place.repo, subset, revision=place.revision)
            names = _plain_files(builder, split)
            return [_made_by_datasets(place, subset, split)] if names is None else [_fetched(name) for name in names]
        except (ValueError, datasets.exceptions.DatasetNotFoundError) as error:
            message = f"the hub's dataset {place.repo} cannot be read so: {error}"
            raise ConfigError.one(field, message) from error


def _plain_files(builder: Any, split: str) -> list[str] | None:
    """URLs of a split's files; None where they need more than reading: another format, options that their card sets."""
    config, files = builder.config, (builder.config.data_files or {}).get(split)
    plain = type(config)(name=config.name, version=config.version)
    told = {"name", "version", "data_dir", "data_files", "description", "features"}
    options = [field.name for field in fields(config) if field.name not in told]
    if files is None or any(getattr(config, name) != getattr(plain, name) for name in options):
        return None
    return [str(file) for file in files] if all(is_table(file) for file in files) else None


def _fetched(url: str) -> Path:
    from huggingface_hub import hf_hub_download

    place = parse_place(url)
    assert isinstance(place, HubDataset) and place.file is not None
    return Path(hf_hub_download(place.repo, place.file, repo_type="dataset", revision=place.revision))


def _made_by_datasets(place: HubDataset, subset: str | None, split: str) -> Path:
    import datasets

    found = datasets.load_dataset(place.repo, subset, split=split, revision=place.revision)
    what = hashlib.sha256(json.dumps([place.repo, place.revision, subset, split]).encode()).hexdigest()
    target = cache_folder("datasets") / f"{what[:32]}.parquet"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        found.to_parquet(temporary)
        temporary.replace(target)
    return target


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
    """`python -m selfalign_jobs.places.hub REPO COMMIT`: fetch a model, print its folder, or why it cannot be had."""
    from huggingface_hub import snapshot_download

    repo, commit = arguments
    wanted, ignored = list(MODEL_FILES), list(NOT_MODEL_FILES)
    try:
        print(snapshot_download(repo, revision=commit, allow_patterns=wanted, ignore_patterns=ignored))
    except Exception as error:
        print(" ".join(f"{type(error).__name__}: {error}".split()), flush=True)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
