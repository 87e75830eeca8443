"""Steps taken from other runs: `storage.reuseFrom` names run folders; a finished step of equal digest is copied, not done.

A step's digest covers its config and, recursively, its inputs, so training the same pairs with another β costs no generation.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Plan
from selfalign_jobs.recipes.base import Step
from selfalign_jobs.store import MANIFEST, Folder, Manifest, read_manifest, step_folder, write_manifest

PLAN_FILE = "plan.json"
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
        found.append((folder, Plan.model_validate_json(folder.read(PLAN_FILE))))
    return found


def take(run: Folder, plan: Plan, step: Step, others: Sequence[tuple[Folder, Plan]]) -> Manifest | None:
    """Copy a finished step of equal digest into this run, its manifest last; None when no other run has one."""
    digest = plan.step_digest(step.name)
    for other, other_plan in others:
        for candidate in other_plan.steps:
            source = step_folder(other, candidate.iteration, candidate.name)
            manifest = read_manifest(source)
            if manifest is not None and manifest.digest == digest:
                target = step_folder(run, step.iteration, step.name)
                for name in source.files():
                    if name != MANIFEST and not name.startswith(NOT_RESULTS):
                        target.write(name, source.read(name))
                reused = manifest.model_copy(update={"step": step.name})
                write_manifest(target, reused)
                return reused
    return None
