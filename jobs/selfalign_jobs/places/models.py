"""The models of a run: as given, where the user's URL leads, and on this machine, where their weights are loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfalign_api.errors import ConfigError
from selfalign_api.places import Bucket, HubModel, absolute, local_path, parse_place
from selfalign_api.plan import ModelRef
from selfalign_api.run_file import StepConfig
from selfalign_api.sources import ModelSource
from selfalign_jobs.places import hub
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.places.content import folder_digest
from selfalign_jobs.places.store import Folder, read_manifest, step_folder

FIELD = "spec.model.url"
POLICY = "policy"  # the lineage of the run's own model
HEAVY = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")  # weights, in whatever form
LOST = -1


def model_field(lineage: str) -> str:
    """Where a run file says where a model is: the run's own (`policy`), or a helper by its name."""
    return FIELD if lineage == POLICY else f"spec.auxiliaryModels[{lineage}].url"


@dataclass(frozen=True)
class GivenModel:
    """A model that a URL names, looked at without loading its weights."""

    field: str  # where the URL stands in the run file
    url: str  # pinned: a hub's with its commit, a relative place as file://
    digest: str
    sizes: dict[str, int]  # of its files, by name; LOST for a link that leads nowhere
    folder: Path  # with those files; the weights of one that is elsewhere are not fetched
    start: Callable[[str, int], bytes]  # so many of the first bytes of a file, wherever it lies

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files, sorted."""
        return tuple(sorted(self.sizes))


def given_model(url: str, mounts: Mapping[str, str], beside: Path, field: str = FIELD) -> GivenModel:
    """Find a model and pin it. Raises ConfigError for one that is not there, ConnectionError where that cannot be seen."""
    place = parse_place(url, field)
    if isinstance(place, HubModel):
        pinned = hub.pin(place, field)
        folder = hub.fetch_small(pinned, field)
        start = partial(hub.read_start, pinned, field)
        return GivenModel(field, f"hf://{place.repo}@{pinned.commit}", pinned.digest, pinned.sizes, folder, start)
    if isinstance(place, Bucket):
        listing = list_bucket(url, field)
        folder = listing.fetch(lambda name: not name.endswith(HEAVY))
        return GivenModel(field, url, listing.digest, listing.sizes, folder, listing.read_start)
    path = local_path(url, mounts, beside, field)
    if not path.is_dir():
        raise ConfigError.one(field, f"there is no folder {path}; write the URL of a model folder", url)
    found = {file.name: file.stat().st_size if file.exists() else LOST for file in path.iterdir() if not file.is_dir()}
    return GivenModel(field, absolute(url, beside), folder_digest(path), found, path, partial(_read_start, path))


def _read_start(folder: Path, name: str, count: int) -> bytes:
    with (folder / name).open("rb") as file:
        return file.read(count)


def locate_model(config: StepConfig, ref: ModelRef) -> Path:
    """A folder of this machine with the model, fetched here if need be: as given (iteration 0), or as a train step made it.

    Raises ConfigError for a place that this machine does not have.
    """
    trainer = config.plan.trainer_of(ref)
    if trainer is None:
        return _fetched(config.plan.models[ref.lineage], config.mounts, model_field(ref.lineage))
    folder = step_folder(Folder.open(config.storage), trainer.iteration, trainer.name)
    manifest = read_manifest(folder)
    if manifest is None or manifest.model is None:
        raise RuntimeError(f"step {trainer.name} has published no model yet; it runs before this one")
    return folder.download(manifest.model, Path(tempfile.gettempdir()) / f"selfalign-{manifest.digest[7:19]}")


def _fetched(source: ModelSource, mounts: Mapping[str, str], field: str) -> Path:
    place = parse_place(source.url, field)
    if isinstance(place, HubModel):
        assert place.revision is not None  # as accepted
        return hub.fetch_model(place.repo, place.revision)
    if isinstance(place, Bucket):
        listing = list_bucket(source.url, field)
        if listing.digest != source.digest:
            message = "the model there has changed since the run was accepted; put it back, or write a new run"
            raise ConfigError.one(field, message, source.url)
        return listing.fetch()
    path = local_path(source.url, mounts)
    if not path.is_dir():
        raise ConfigError.one(field, f"there is no folder {path}; write the URL of a model folder", source.url)
    return path
