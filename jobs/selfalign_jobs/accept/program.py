"""Accepting a run, before anything is paid for: resolve it, look at all it names, claim its folder, write its plan there.

`selfalign run` does this itself; on a cluster it is the first step of every run, `--step accept`, without a GPU.
Nothing here reads `compute`: where a run runs may change, and what was accepted stays so.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_api.load import parse
from selfalign_api.outcome import ACCEPT, pack_steps
from selfalign_api.plan import Plan, Publish
from selfalign_api.plan_values import Json
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.run_file import Means, RunFile
from selfalign_jobs.accept import preflight
from selfalign_jobs.accept.context import with_context
from selfalign_jobs.accept.owner import claim
from selfalign_jobs.accept.resolve import Resolved, resolve
from selfalign_jobs.places.bucket import reading
from selfalign_jobs.places.store import Folder, write_plan
from selfalign_jobs.publish.program import destination, destinations, refuse_other_runs
from selfalign_jobs.publish.repository import Repository
from selfalign_jobs.step import second_look
from selfalign_jobs.step.reuse import other_runs
from selfalign_jobs.tracking.follow import check

# What a write to a folder ends in when the folder is the wrong one; other errors may pass.
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)

PROBE = ".tmp-writable"  # never listed as a file of the folder, should it outlive us


@dataclass(frozen=True)
class Accepted:
    """A run that may start."""

    plan: Plan
    storage: str
    adopted: bool  # its folder held artefacts of the same method
    notes: tuple[str, ...]  # what of it deserves a second look already

    def summary(self, attempt: int) -> dict[str, Json]:
        """What the termination message says: all that whoever runs the steps must know of the plan."""
        model = self.plan.models["policy"]
        return {
            "step": ACCEPT,
            "attempt": attempt,
            "digest": self.plan.digest,
            "version": self.plan.version,
            "model": {"url": model.url, "revision": model.digest},
            "storage": self.storage,
            "steps": pack_steps((step.name, step.kind, step.iteration) for step in self.plan.steps),
        } | ({"result": {"notes": second_look.kept_short(self.notes)}} if self.notes else {})


def accept(file: RunFile, beside: Path, tracking: Tracking | None = None) -> Accepted:
    """Check the run, claim its folder and write its plan; done again, it comes to the same.

    `beside` is what `./PATH` is relative to; `tracking` is not in the file, for it may change. Raises ConfigError, whose
    `reason` is that of the condition Accepted.
    """
    spec = {field: value for field, value in file.run.get("spec", {}).items() if field != "compute"}
    run = parse(SelfAlignmentRun, file.run | {"spec": spec}, "")
    resolved = examine(run, file.means, file.mounts, beside)
    other_runs(file.reuse_from)
    check_writable(Folder.open(file.storage), "spec.storage.url")
    for step in resolved.plan.steps:
        if isinstance(step, Publish):
            check_outputs(step, resolved.plan, file.mounts)
    untracked = None if tracking is None else check(tracking)
    folder = Folder.open(file.storage)
    adopted = claim(folder, resolved.plan, resolved.values)
    write_plan(folder, resolved.plan)
    notes = resolved.notes if untracked is None else (*resolved.notes, untracked)
    return Accepted(resolved.plan, file.storage, adopted, notes)


def examine(run: SelfAlignmentRun, means: Means, mounts: Mapping[str, str], beside: Path) -> Resolved:
    """The run resolved, after all that can be known to be wrong has been looked for; nothing is written."""
    check_rules(run)
    resolved = resolve(run, means.generation.device, mounts, beside)
    seen = preflight.check(resolved, run.spec, means, mounts)
    resolved = with_context(resolved, seen.models, seen.longest)
    return replace(resolved, rows=seen.rows, looked_at=tuple(seen.notes))


def check_outputs(step: Publish, plan: Plan, mounts: Mapping[str, str]) -> None:
    """ConfigError when what is asked for cannot be published where it should go."""
    for field, url in destinations(step):
        target = destination(url, step, mounts, field)
        if isinstance(target, Repository):
            target.refuse_strangers()
        else:
            check_writable(target, field)
        refuse_other_runs(field, url, target, plan)


def check_writable(folder: Folder, field: str) -> None:
    """ConfigError when a folder cannot be written, before anything is paid for."""
    local = folder.local
    if local is None:
        with reading(folder.place, field):
            folder.write(PROBE, b"")
            folder.delete(PROBE)
        return
    try:
        local.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=local):
            pass
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        message = (
            f"{local} cannot be written by user {os.getuid()} ({error.strerror}); write a folder that it may write to, "
            "or --out DIR on one machine"
        )
        raise ConfigError.one(field, message) from error
