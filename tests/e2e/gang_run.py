"""The example run as gangs of two, small; and what its folder on the claim says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from runs import Run

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.plan_values import Json
from selfalign_jobs.places.store import Folder, Manifest, parts_of, read_manifest, read_parts, step_folder
from selfalign_jobs.train.checkpoint import newest
from testbed.real_cluster import RealCluster
from testbed.scripts import INDEX_LABEL
from testbed.standing import CLAIM, REPOSITORY
from testbed.waiting import until

EXAMPLES = REPOSITORY / "examples"
STEPS = ("i1-generate", "i1-train", "i1-evaluate")
GANGS = {"generation": {"replicas": 2}, "training": {"nodes": 2, "zeroStage": 2}, "evaluation": {"replicas": 1}}


def tiny(name: str, personas: int, **spec: Any) -> dict[str, Any]:
    """examples/sao-tiny.yaml with fewer personas, two engines, and two nodes that train with ZeRO-2."""
    return example("sao-tiny", {"personas": personas}, GANGS, **spec) | {"metadata": {"name": name}}


def example(name: str, rows: dict[str, int], compute: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """An example with so many rows of its sources, on pods as `compute` says."""
    file = EXAMPLES / f"{name}.yaml"
    manifest: dict[str, Any] = read_yaml(file.read_text(), file.name)
    for source, count in rows.items():
        manifest["spec"]["data"][source]["count"] = count
    manifest["spec"]["compute"] |= compute
    manifest["spec"] |= spec
    return manifest


def numbers(value: Json, name: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of nested maps, their names joined by dots."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, int | float):
        yield name, float(value)


class GangRun(Run):
    """Such a run under way, in a namespace of the fixture whose claims are under `claims`."""

    def __init__(self, cluster: RealCluster, namespace: str, claims: Path, manifest: dict[str, Any]) -> None:
        super().__init__(cluster, namespace, manifest)
        self.folder = Folder.open((claims / CLAIM / "runs" / namespace / self.name).as_uri())

    def until_complete(self, seconds: float) -> None:
        """Returns when it is Complete. Raises AssertionError when it is not in time, or fails, with what its pods said."""

        def ended() -> str | None:
            return next((kind for kind in ("Complete", "Failed") if self.condition(kind).get("status") == "True"), None)

        try:
            how = until(ended, f"end of {self.name}", seconds, pause=1.0)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.evidence()}") from None
        assert how == "Complete", self.evidence()

    def evidence(self) -> str:
        """Its status, and the ends of its pods' logs."""
        selector = f"selfalign.dev/run-uid={self.read()['metadata']['uid']}"
        say = self.cluster.kubectl
        where = f"--namespace={self.namespace}"
        pods = say("get", "pods", where, "-o=wide")
        logs = say("logs", where, f"--selector={selector}", "--prefix", "--tail=25", "--ignore-errors")
        return f"{json.dumps(self.status, indent=1)}\n{pods}\n{logs}"

    def manifest(self, step: str) -> Manifest:
        """What a finished step has published."""
        found = read_manifest(self.folder_of(step))
        assert found is not None, f"{step} has no manifest in {self.folder.path}"
        return found

    def has_ended(self, step: str) -> bool:
        """Whether it has published itself."""
        return read_manifest(self.folder_of(step)) is not None

    def folder_of(self, step: str) -> Folder:
        """A step's part of the folder."""
        return step_folder(self.folder, self.step(step)["iteration"], step)

    def assert_told_as_published(self, step: str) -> None:
        """The status of a step says what its manifest does."""
        told, manifest = self.step(step), self.manifest(step)
        assert (told["digest"], told["attempts"]) == (manifest.digest, manifest.attempt)
        there = dict(numbers(manifest.result))
        assert told["result"]
        for figure in told["result"]:
            assert float(figure["value"]) == pytest.approx(there[figure["name"]], rel=1e-5), figure

    def assert_every_persona_once(self, personas: int) -> None:
        """No pair is lost, none doubled."""
        folder = step_folder(self.folder, 1, "i1-generate")
        table = read_parts(folder, self.manifest("i1-generate").tables["pairs"], ["_source"])
        assert sorted(table["_source"].to_pylist()) == list(range(personas))

    def assert_every_row_once(self, step: str) -> None:
        """No row that engines were to be asked is lost, none doubled."""
        folder, tables = self.folder_of(step), self.manifest(step).tables
        assert tables
        for name, table in tables.items():
            sources = read_parts(folder, table, ["_source"])["_source"].to_pylist()
            once = [source for source, _ in groupby(sources)]  # a record's rows follow one another
            asked = folder.read_table(f"prepared/{name}.parquet", []).num_rows
            assert sorted(once) == list(range(asked)), f"{step}: {name}"

    def records(self) -> int:
        """Pairs that are durable."""
        folder = step_folder(self.folder, 1, "i1-generate")
        return sum(len(folder.read_table(part, ["_source"])) for part in parts_of(folder, "pairs"))

    def until_records_after(self, records: int, seconds: float) -> int:
        """Durable pairs, once there are more than `records`."""
        return until(lambda: found if (found := self.records()) > records else None, f"{records} pairs", seconds, 0.5)

    def until_checkpoint(self, seconds: float) -> None:
        """Returns when the training has saved itself."""
        folder = step_folder(self.folder, 1, "i1-train")
        until(lambda: newest(folder), "checkpoint", seconds, 0.2)

    def running(self, step: str) -> list[client.V1Pod]:
        """The pods of a step whose program runs."""
        return [pod for pod in self.pods(step) if pod.status.phase == "Running"]

    def until_runs(self, step: str, index: int, seconds: float, after: str = "") -> client.V1Pod:
        """The pod of that index of a step, once it runs and is not the one of uid `after`."""

        def look() -> client.V1Pod | None:
            pods = [pod for pod in self.running(step) if pod.metadata.labels[INDEX_LABEL] == str(index)]
            return next((pod for pod in pods if pod.metadata.uid != after), None)

        return until(look, f"pod {index} of {step}", seconds, 0.2)
