"""A profile's gangs by a scheduler of their own, on the real apiserver; with the real scheduler: test_real_coscheduling.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operators import CONFIG, OperatorProcess
from runs import Run, run

from testbed.cluster import Cluster
from testbed.waiting import until

GROUPS = {"Coscheduling": ("scheduling.x-k8s.io", "v1alpha1"), "Volcano": ("scheduling.volcano.sh", "v1beta1")}


def crd(group: str, version: str) -> dict[str, Any]:
    """A PodGroup of that API group, of any shape."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    approved = {"api-approved.kubernetes.io": "unapproved, of a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"podgroups.{group}", "annotations": approved},
        "spec": {
            "group": group,
            "names": {"kind": "PodGroup", "plural": "podgroups", "singular": "podgroup"},
            "scope": "Namespaced",
            "versions": [served],
        },
    }


@pytest.fixture(params=sorted(GROUPS), name="type")
def _type(request: pytest.FixtureRequest, cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[str]:
    """A scheduler, which an operator's profile names; the cluster's own places the pods."""
    gangs = {"type": request.param, "schedulerName": "default-scheduler"}
    profiles = json.dumps({"default": {"gangScheduling": gangs}})
    options = ("--no-leader-election", f"--namespace={namespace}")
    operator = OperatorProcess(tmp_path, cluster.kubeconfig, *options, config=f"{CONFIG}profiles: {profiles}\n")
    operator.wait_ready()
    yield request.param
    assert operator.stop() == 0


def test_without_its_crd_the_run_says_what_is_missing_and_with_it_every_gang_has_a_group(
    type: str, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    group, version = GROUPS[type]
    compute = {"generation": {"replicas": 2}, "training": {"nodes": 3}}
    made = Run(cluster, namespace, run("gangs", compute=compute))
    assert f"{group}/{version}" in made.until("Accepted", "False", "PodGroupNotInstalled")["message"]
    file = tmp_path / "crd.yaml"
    file.write_text(json.dumps(crd(group, version)))
    cluster.add_crd(file)
    try:
        made.until("Complete", "True", seconds=120)
        found = cluster.custom.list_namespaced_custom_object(group, version, namespace, "podgroups")["items"]
        assert sorted(each["spec"]["minMember"] for each in found) == [2, 3]
        assert {owner["uid"] for each in found for owner in each["metadata"]["ownerReferences"]} == {made.uid}
        made.delete()
        listed = cluster.custom.list_namespaced_custom_object
        until(lambda: not listed(group, version, namespace, "podgroups")["items"], "end of the groups")
    finally:
        cluster.kubectl("delete", "-f", str(file))
