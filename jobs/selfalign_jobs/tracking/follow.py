"""Bringing a tracking server up to date with a run: what is durable and not there is written; done again, nothing is.

A step does this when it has ended, and `selfalign run` at its end. A run never fails for it: what went wrong is told, in the
step's log and in summary.json, and the next time makes up for it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_api.plan import Plan
from selfalign_api.plan_values import Frozen, Json
from selfalign_jobs.places.store import SUMMARY, Folder
from selfalign_jobs.tracking.mlflow import KEY, MLflow, NotTracked, TrackedAs, Unreachable
from selfalign_jobs.tracking.tracked import (
    Tracked,
    all_done,
    finished_steps,
    key_of_step,
    published,
    tracked_run,
    tracked_step,
)

STATE = "tracking.json"  # in the run's folder
PARENT, SOURCE = "mlflow.parentRunId", "mlflow.source.name"  # tags that MLflow's pages know
RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"
PATIENCE_SECONDS = (
    60.0  # for a server that does not answer, once the last step has ended: nothing follows that could catch up
)
PAUSE_SECONDS = 5.0


class State(Frozen):
    """How far a run is tracked, as its folder says it."""

    url: str  # of the server
    page: str | None = None  # of the tracked run there, for people
    behind: str | None = None  # why something is missing there; None: nothing is

    @property
    def words(self) -> str:
        """One line for people."""
        return f"tracked: {self.page}" if self.behind is None else f"tracking is behind: {self.behind}"


def check(tracking: Tracking) -> str | None:
    """None where the server takes runs; else why not, as a ConfigError where the run requires it."""
    try:
        MLflow(tracking.url, os.environ).experiment(tracking.experiment)
    except NotTracked as error:
        if not tracking.required:
            return f"Tracking is behind: {error}."
        message = f"{error}; mend that, or write required: false to run untracked until it answers"
        raise ConfigError.one("spec.tracking", message) from error
    return None


def follow(
    run: Folder,
    plan: Plan,
    tracking: Tracking,
    mounts: Mapping[str, str],
    *,
    failed: bool = False,
    patience: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
) -> State:
    """Track all of the run that is durable, say how far that went, and leave it in the run's folder. Never raises.

    `failed`: the run has ended so. `patience`: seconds to wait for a server that does not answer, once no step is left to do.
    """
    page, behind, ended = None, None, failed
    began = time.monotonic()
    while True:
        try:
            ended = failed or all_done(run, plan)
            page, behind = _follow(run, plan, tracking, mounts, failed=failed, stopped=stopped), None
        except Unreachable as error:
            behind = str(error)
            if ended and time.monotonic() < began + patience and not stopped():
                time.sleep(PAUSE_SECONDS)
                continue
        except NotTracked as error:
            behind = str(error)
        except Exception as error:  # whatever a server answers, or a folder holds
            behind = f"{type(error).__name__}: {error}"
        break
    known = state_of(run)
    state = State(
        url=tracking.url, page=page or (known.page if known and known.url == tracking.url else None), behind=behind
    )
    with suppress(OSError):
        _keep(run, state)
    return state


def state_of(run: Folder) -> State | None:
    """How far a run is tracked; None for one that never was, or whose file cannot be read."""
    try:
        return State.model_validate_json(run.read(STATE))
    except (OSError, ValueError):
        return None


def told(state: State) -> dict[str, Json]:
    """The same as summary.json has it."""
    return {"tracking": state.model_dump()}


def _keep(run: Folder, state: State) -> None:
    run.write(STATE, state.model_dump_json(indent=1).encode())
    if run.exists(SUMMARY):
        with suppress(ValueError):
            run.write(SUMMARY, json.dumps(json.loads(run.read(SUMMARY)) | told(state), indent=1).encode())


def _follow(
    run: Folder,
    plan: Plan,
    tracking: Tracking,
    mounts: Mapping[str, str],
    *,
    failed: bool,
    stopped: Callable[[], bool],
) -> str:
    """The page of the tracked run, once all is there."""
    client = MLflow(tracking.url, os.environ)
    experiment = client.experiment(tracking.experiment)
    whole = tracked_run(run, plan)
    parent = client.find(experiment, KEY, whole.key).get(whole.key)
    there = parent is not None
    parent = parent or _created(client, experiment, whole, {})
    steps = client.find(experiment, PARENT, parent.run_id) if there else {}
    for name, manifest in finished_steps(run, plan):
        if stopped():
            raise Unreachable("it was stopped; the next step goes on there")
        step = steps.get(key_of_step(run, plan, name))
        if step is not None and step.status == FINISHED:  # which is written last
            continue
        found = tracked_step(run, plan, name, manifest, mounts)
        _write(
            client, step or _created(client, experiment, found, {PARENT: parent.run_id}), found, again=step is not None
        )
    _write(client, parent, whole, again=there, failed=failed)
    if (model := published(run, plan)) is not None:
        client.register(model.name, model.url, parent, model.tags)
    return client.page(experiment, parent.run_id)


def _created(client: MLflow, experiment: str, tracked: Tracked, tags: Mapping[str, str]) -> TrackedAs:
    named = {SOURCE: "selfalign", **tracked.tags, **tags}
    return client.create(experiment, tracked.key, tracked.name, named, tracked.started or time.time())


def _write(client: MLflow, to: TrackedAs, tracked: Tracked, *, again: bool, failed: bool = False) -> None:
    """All of a run or a step; `again`: some of it may be there."""
    client.describe(to.run_id, tracked.parameters, tracked.tags)
    missing = list(tracked.points)
    if again:
        there = {name: client.steps(to.run_id, name) for name in {point.name for point in missing}}
        missing = [point for point in missing if point.step not in there[point.name]]
    client.add(to.run_id, missing)
    for artefact in tracked.artefacts:
        with suppress(FileNotFoundError):  # somebody has taken it away
            content = artefact.folder.read(artefact.file)
            client.upload(to, artefact.name, content)
    if failed:
        client.end(to.run_id, FAILED, time.time())
    else:
        client.end(to.run_id, RUNNING if tracked.finished is None else FINISHED, tracked.finished)
