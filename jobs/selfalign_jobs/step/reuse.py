"""Steps taken from other runs: `storage.reuseFrom` names run folders; a finished step of equal digest is copied, not done.

A step's digest covers its config and, recursively, its inputs, so training the same pairs with another β costs no generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Plan, Publish
from selfalign_api.run_file import StepConfig
from selfalign_jobs.places.store import (
    MANIFEST,
    PLAN_FILE,
    Folder,
    Manifest,
    read_manifest,
    read_plan,
    step_folder,
    write_manifest,
)

NOT_RESULTS = ("checkpoints/", "work/")  # what resumes an unfinished step


def other_runs(urls: Sequence[str]) -> list[tuple[Folder, Plan]]:
    """The runs that these URLs name; ConfigError for one that holds none."""
    found = []
    for number, url in enumerate(urls):
        folder = Folder.open(url)
        if not folder.exists(PLAN_FILE):
            message = (
                f"holds no run ({PLAN_FILE} is missing); write the URL of a run's folder, as selfalign run printed it"
            )
            raise ConfigError.one(f"spec.storage.reuseFrom[{number}]", message, url)
        found.append((folder, read_plan(folder)))
    return found


def done_before(config: StepConfig) -> Manifest | None:
    """The manifest of a step that is done: in this run, or copied now from a run that it may be taken from."""
    step = config.plan.step(config.step)
    folder = step_folder(Folder.open(config.storage), step.iteration, step.name)
    manifest = read_manifest(folder)
    if isinstance(step, Publish) and manifest is not None and manifest.digest != config.plan.step_digest(step.name):
        return None  # it was copied to another place than is asked for now
    if manifest is not None:
        return manifest
    for source, manifest in finished_elsewhere(config):
        folder.copy_all(
            source, [name for name in source.files() if name != MANIFEST and not name.startswith(NOT_RESULTS)]
        )
        reused = manifest.model_copy(update={"step": step.name, "reused": True})
        write_manifest(folder, reused)
        return reused
    return None


def finished_elsewhere(config: StepConfig) -> Iterator[tuple[Folder, Manifest]]:
    """Finished steps of other runs with this step's digest: their folders and manifests."""
    digest = config.plan.step_digest(config.step)
    for run, plan in other_runs(config.reuse_from):
        for candidate in plan.steps:
            source = step_folder(run, candidate.iteration, candidate.name)
            manifest = read_manifest(source)
            if manifest is not None and manifest.digest == digest:
                yield source, manifest
