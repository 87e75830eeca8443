"""Where the weights of a model of the run lie on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from selfalign_api.errors import ConfigError
from selfalign_api.places import local_path
from selfalign_api.plan import ModelRef, StepConfig
from selfalign_jobs.store import Folder, read_manifest, step_folder


def locate_model(config: StepConfig, ref: ModelRef) -> Path:
    """A local folder with the model: as given (iteration 0), or as a train step of the plan published it.

    Raises ConfigError for a place that this machine does not have.
    """
    trainer = config.plan.trainer_of(ref)
    if trainer is None:
        source = config.plan.models[ref.lineage]
        path = local_path(source.url, config.mounts)
        if not path.is_dir():
            raise ConfigError.one(
                "spec.model.url", f"there is no folder {path}; write the URL of a model folder", source.url
            )
        return path
    folder = step_folder(Folder.open(config.storage), trainer.iteration, trainer.name)
    manifest = read_manifest(folder)
    if manifest is None or manifest.model is None:
        raise RuntimeError(f"step {trainer.name} has published no model yet; it runs before this one")
    return folder.download(manifest.model, Path(tempfile.gettempdir()) / f"selfalign-{manifest.digest[7:19]}")
