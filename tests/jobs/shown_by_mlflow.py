"""What a tracking server shows of an experiment."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import urlencode

from testbed.mlflow import TrackingServer


class Shown:
    """What the server has of an experiment, asked by its REST API."""

    def __init__(self, server: TrackingServer, experiment: str) -> None:
        self._url = f"{server.url}/api/2.0/mlflow"
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
        runs = self.post("runs/search", experiment_ids=[found], max_results=1000).get("runs", [])
        self.runs: dict[str, list[dict[str, Any]]] = {}
        for run in runs:
            self.runs.setdefault(run["info"]["run_name"], []).append(run)

    def get(self, call: str, **asked: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/{call}?{urlencode(asked)}") as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def post(self, path: str, **asked: object) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self._url}/{path}", json.dumps(asked).encode(), headers)
        ) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def run(self, name: str) -> dict[str, Any]:
        (run,) = self.runs[name]
        return run

    def id_of(self, name: str) -> str:
        return str(self.run(name)["info"]["run_id"])

    def described(self, name: str, part: str) -> dict[str, str]:
        return {pair["key"]: pair["value"] for pair in self.run(name)["data"].get(part, [])}

    def curve(self, name: str, curve: str) -> list[tuple[int, float]]:
        found = self.get("metrics/get-history", run_id=self.id_of(name), metric_key=curve)["metrics"]
        return sorted((int(point.get("step", 0)), float(point["value"])) for point in found)

    def artefacts(self, name: str, path: str = "") -> set[str]:
        found = self.get("artifacts/list", run_id=self.id_of(name), path=path).get("files", [])
        inside = (self.artefacts(name, each["path"]) if each.get("is_dir") else {each["path"]} for each in found)
        return set().union(*inside) if found else set()

    def versions(self, name: str) -> list[dict[str, Any]]:
        asked = {"filter": f"run_id = '{self.id_of(name)}'"}
        return list(self.get("model-versions/search", **asked).get("model_versions", []))
