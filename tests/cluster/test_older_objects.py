"""Objects that no schema of today would take, or that a hand has edited: told of, and no other run waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from loose import (
    apply_crd,
    broken_runs,
    create,
    everything,
    loose_cluster,
    schema_of,
    side_by_side,
    silent,
    the_crd,
    until_all_are_told,
)
from malformed import Malformer
from operators import OWN_ERROR, OperatorProcess
from runs import GROUP, PLURAL, VERSION, Run, a_healthy_run_completes, attempt_is, run

from testbed.cluster import Cluster
from testbed.waiting import until

STATUSES, OLD = 150, 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this file's own, for its CRD."""
    with loose_cluster(tmp_path_factory.mktemp("loose")) as cluster:
        yield cluster


def test_a_status_edited_by_hand_stops_no_run(cluster: Cluster, namespace: str, unharmed: OperatorProcess) -> None:
    pattern = Run(cluster, namespace, run("pattern", attempt_is("i1-train", 1, exit_code=1)))
    pattern.until("Complete", "True")
    ended = pattern.status
    half = json.loads(json.dumps(ended))
    half["steps"][2] |= {"state": "Running", "workload": half["steps"][2]["workload"]}
    half["steps"][3] = {"name": "i1-evaluate", "kind": "evaluate", "state": "Pending"}
    half["conditions"] = [each for each in half["conditions"] if each["type"] in ("Accepted", "Suspended")]
    half.pop("completionTime")
    schema = schema_of("status")
    statuses = [Malformer(schema, seed).broken(half if seed % 3 else ended) for seed in range(STATUSES)]
    names = create(cluster, namespace, [run(f"edited-{seed}") for seed in range(STATUSES)])

    def edit(seed: int) -> None:
        body = {"status": statuses[seed] if isinstance(statuses[seed], dict) else {"steps": statuses[seed]}}
        cluster.custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, namespace, PLURAL, f"edited-{seed}", body, _content_type="application/merge-patch+json"
        )

    side_by_side(edit, list(range(STATUSES)))
    until_all_are_told(cluster, namespace, names)


def test_runs_that_a_stricter_schema_found_there_are_told_of(
    cluster: Cluster, operator: OperatorProcess, namespace: str, tmp_path: Path
) -> None:
    """The last one of this file: it ends the operator, and puts the real schema back."""
    assert operator.stop() == 0
    names = create(cluster, namespace, broken_runs(OLD, "old"))
    apply_crd(cluster, the_crd())
    until(lambda: refuses(cluster, namespace), "schema in force")
    second = OperatorProcess(tmp_path, cluster.kubeconfig, "--no-leader-election")
    try:
        second.wait_ready()
        a_healthy_run_completes(cluster, namespace, "healthy-too")

        def unsaid() -> set[str]:
            events = cluster.core.list_namespaced_event(namespace).items
            heard = {event.involved_object.name for event in events if event.involved_object.kind == "SelfAlignmentRun"}
            return set(silent(cluster, namespace, names)) - heard

        try:
            until(lambda: not unsaid(), "word of every old run", 120, pause=0.5)
        except TimeoutError as error:
            left = [everything(cluster, namespace)[name] for name in sorted(unsaid())[:3]]
            raise TimeoutError(f"{error}: {json.dumps(left, indent=1)}\n{second.log.read_text()[-3000:]}") from None
        assert not OWN_ERROR.search(second.log.read_text()), second.log.read_text()[-4000:]
    finally:
        assert second.stop() == 0


def refuses(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.custom.create_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, run("probe") | {"spec": {"recipe": 7}}, dry_run="All"
        )
    except client.ApiException as error:
        return error.status == 422
    return False
