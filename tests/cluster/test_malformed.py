"""Specs past the schema: each is told of, and no other run waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loose import broken_runs, create, everything, loose_cluster, told, until_all_are_told
from operators import OperatorProcess
from runs import GROUP, PLURAL, VERSION, Run, a_healthy_run_completes, run

from testbed.cluster import Cluster
from testbed.waiting import until

SPECS, MENDED = 1000, 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this file's own, for its CRD."""
    with loose_cluster(tmp_path_factory.mktemp("loose")) as cluster:
        yield cluster


def test_a_thousand_malformed_specs_are_told_of_and_mended_ones_go_on(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    manifests = broken_runs(SPECS, "broken")
    names = create(cluster, namespace, manifests)
    a_healthy_run_completes(cluster, namespace, "healthy")
    until_all_are_told(cluster, namespace, names)
    there = everything(cluster, namespace)
    refused = [name for name in sorted(names & set(there)) if told(there[name]) == "Accepted"]
    assert len(refused) > SPECS / 2
    assert all(there[name]["status"]["conditions"][0]["message"] for name in refused)

    def mend(name: str) -> None:
        whole = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)
        whole["spec"] = run(name)["spec"]
        cluster.custom.replace_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name, whole)

    for name in refused[:MENDED]:
        mend(name)
    until(
        lambda: all(told(everything(cluster, namespace)[name]) == "Complete" for name in refused[:MENDED]),
        "end of the mended runs", 120, pause=0.5,
    )  # fmt: skip


def test_an_object_nested_as_deep_as_the_apiserver_takes_it_is_told_so(
    cluster: Cluster, namespace: str, tmp_path: Path, unharmed: OperatorProcess
) -> None:
    for depth in (90, 500, 880, 940, 9000):
        manifest = json.dumps(run(f"deep-{depth}", compute={"podTemplate": {"spec": {"volumes": "DEEP"}}}))
        file = tmp_path / "deep.json"
        file.write_text(manifest.replace('"DEEP"', "[" * depth + "]" * depth))
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        cluster.kubectl("create", f"--raw={path}", f"-f={file}")
    a_healthy_run_completes(cluster, namespace, "beside-deep-ones")
    for depth in (90, 500, 880, 940, 9000):
        reason = '-o=jsonpath={.status.conditions[?(@.type=="Accepted")].reason}'
        shown = lambda: cluster.kubectl("get", "sar", f"deep-{depth}", f"-n={namespace}", reason)  # noqa: B023, E731
        until(lambda: shown() == "InvalidSpec", f"word of deep-{depth}")  # noqa: B023


TEMPLATES: tuple[dict[str, Any], ...] = (
    {"spec": {"nodeSelector": ["a"]}},
    {"spec": {"tolerations": "all"}},
    {"spec": {"containers": [{"name": "step", "resources": "2"}]}},
    {"spec": {"containers": [{"name": "beside", "image": 7}]}},
    {"spec": {"affinity": {"nodeAffinity": []}}},
    {"metadata": {"annotations": {"a": 1}}},
    {"metadata": {"annotations": {"a/b/c": "x"}}},
    {"metadata": {"annotations": {"large": "x" * 300_000}}},
)


def test_a_pod_template_of_wrong_types_is_told_of_by_the_clusters_own_words(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    runs = [
        Run(cluster, namespace, run(f"template-{number}", compute={"training": {"podTemplate": template}}))
        for number, template in enumerate(TEMPLATES)
    ]
    for made in runs:
        made.until("Accepted", "False", "InvalidSpec", seconds=180)
        assert made.jobs() == []
