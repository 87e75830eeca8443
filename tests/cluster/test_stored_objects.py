"""Objects that earlier versions of the operator stored: today's CRD takes each of them, and keeps every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import GROUP, PLURAL, VERSION, Run

from testbed.cluster import Cluster

STORED = Path(__file__).parents[1] / "stored"
RUNS = [
    (folder.name, run)
    for folder in sorted(STORED.iterdir())
    if folder.is_dir()
    for run in json.loads((folder / "selfalignmentruns.json").read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("version", "run"), RUNS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_stored_run_is_taken_and_given_back_to_the_last_field(
    cluster: Cluster, namespace: str, version: str, run: dict[str, Any]
) -> None:
    name = run["metadata"]["name"]
    manifest = {"apiVersion": run["apiVersion"], "kind": run["kind"], "metadata": {"name": name}, "spec": run["spec"]}
    made = Run(cluster, namespace, manifest)
    cluster.custom.patch_namespaced_custom_object_status(
        *(GROUP, VERSION, namespace, PLURAL, name, {"status": run["status"]}),
        _content_type="application/merge-patch+json",
    )
    found = made.read()
    assert (found["spec"], found["status"]) == (run["spec"], run["status"])
