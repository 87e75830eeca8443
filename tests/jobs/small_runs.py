"""Runs of the tiny examples in this process, by the real steps: their engines are transformers', and there is no Ray.

A start of Ray and of vLLM takes longer than all that such a run asks of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trainings
import yaml
from tiny_run import EXAMPLES, MOUNTS
from transformers_engine import TransformersEngine

from selfalign_api.load import parse
from selfalign_api.merge import merge
from selfalign_api.plan import Generate, Plan, Train
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.accept.resolve import Resolved, resolve
from selfalign_jobs.generate import program
from selfalign_jobs.generate.driver import Event, Report, Started
from selfalign_jobs.generate.host import EngineHost, HostSetup
from selfalign_jobs.generate.loop import Task
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, read_parts, step_folder
from selfalign_jobs.recipes.method import Method


class OneWorker:
    """The engine of a load in this process (`driver.Workers`)."""

    names = ("engine-0",)

    def __init__(self, setup: HostSetup) -> None:
        self._setup = setup
        self._host: EngineHost | None = None
        self._given: list[Task] = []
        self._back = 0

    def give(self, worker: str, tasks: list[Task]) -> None:
        self._given += tasks

    def take_back(self, worker: str, rows: int) -> None:
        self._back = rows

    def wait(self, seconds: float) -> Iterator[Event]:
        (name,) = self.names
        if self._host is None:
            self._host = EngineHost(self._setup, self._setup.locate())
            yield Started(name, self._host.facts)
            return
        given, back = self._given, self._back
        self._given, self._back = [], 0
        word = self._host.exchange(given, back)
        yield Report(name, word.batches, word.kv_use, word.given_back if back else None)

    def restart(self, worker: str) -> None:
        raise AssertionError(f"{worker} was silent")

    def close(self) -> None:
        self._host = None


@dataclass(frozen=True)
class SmallRun:
    """A run and its folder, after the steps of it that generate or train."""

    resolved: Resolved
    folder: Path

    @property
    def plan(self) -> Plan:
        return self.resolved.plan

    @property
    def method(self) -> Method:
        """What it was planned by."""
        return self.resolved.method

    def of(self, step: str) -> Folder:
        """A step's part of the folder."""
        return step_folder(Folder.open(self.folder.as_uri()), self.plan.step(step).iteration, step)

    def manifest(self, step: str) -> Manifest:
        """What a step has published."""
        found = read_manifest(self.of(step))
        assert found is not None
        return found

    def model(self, step: str) -> Path:
        """The model that a training has made."""
        folder, manifest = self.of(step), self.manifest(step)
        assert folder.local is not None and manifest.model is not None
        return folder.local / manifest.model

    def rows(self, step: str, name: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        table = read_parts(self.of(step), self.manifest(step).tables[name])
        return [row for row in table.to_pylist() if row["_status"] == "rows"]


def plan_of(example: str, changes: Mapping[str, Any]) -> Resolved:
    """The plan of an example with these changes of its spec, without an evaluation."""
    document = yaml.safe_load((EXAMPLES / example).read_text())
    training = document["spec"]["training"]
    for values in (training, *training["stages"]):
        values["learningRate"] = float(values["learningRate"])  # YAML 1.1 reads 1e-4 as a text
    document["spec"] = merge(document["spec"], {"evaluation": {"when": "Never"}} | changes)
    return resolve(parse(SelfAlignmentRun, document, ""), "CPU", MOUNTS, EXAMPLES)


def ran(resolved: Resolved, folder: Path, given: Mapping[str, pa.Table] | None = None) -> SmallRun:
    """The run of a plan; steps that are finished in the folder are taken. A training's table in `given` is what it prepares."""
    run, plan = SmallRun(resolved, folder), resolved.plan
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "RayWorkers", OneWorker)
        patch.setattr(program, "ray_session", lambda *_: nullcontext())
        for step in plan.steps:
            if read_manifest(run.of(step.name)) is not None:
                continue
            if isinstance(step, Generate):
                program.generate(trainings.context(plan, folder, None, step=step.name), step, TransformersEngine)
            elif isinstance(step, Train):
                trainings.trained(plan, step.name, folder, (given or {}).get(step.name))
    return run
