"""Children that are somebody else's, whatever they claim to be: left alone, told of where they are in the way."""

from __future__ import annotations

from typing import Any

from operators import OperatorProcess
from runs import GROUP, STEP, VERSION, Run, a_healthy_run_completes, attempt_is, run

from selfalign_operator.names import workload_name
from testbed.cluster import Cluster


def foreign_job(name: str, labels: dict[str, str], owners: list[dict[str, Any]]) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "step", "image": "x"}]}
    hangs = {"testbed.selfalign.dev/trouble": "Hang"}
    template = {"metadata": {"labels": {"who": "knows"}, "annotations": hangs}, "spec": pod}
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": owners}, "spec": {"template": template}}


def goes_on_after_a_suspension(made: Run) -> None:
    """The attempt that hangs is given up, and the next one ends."""
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True")
    made.patch({"spec": {"suspend": False}})
    made.until("Complete", "True")


def test_children_with_our_labels_that_are_not_ours_are_left_alone(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("crowded", attempt_is("i1-generate", 1, trouble="Hang")))
    made.until_step("i1-generate", "Running")
    uid = made.read()["metadata"]["uid"]
    ours = {"selfalign.dev/run-uid": uid, STEP: "i1-generate", "selfalign.dev/attempt": "1"}
    owner = cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}}).metadata
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name, "uid": owner.uid, "controller": True}
    foreign = [
        foreign_job("unowned", ours, []),
        foreign_job("anothers", ours | {"selfalign.dev/attempt": "7"}, [other]),
        foreign_job("no-number", ours | {"selfalign.dev/attempt": "x"}, []),
        foreign_job("no-step", ours | {STEP: "made-up", "selfalign.dev/attempt": "999999999"}, []),
    ]
    for job in foreign:
        cluster.batch.create_namespaced_job(namespace, job)
    a_healthy_run_completes(cluster, namespace, "beside-foreign-ones")
    goes_on_after_a_suspension(made)
    left = {job.metadata.name for job in cluster.batch.list_namespaced_job(namespace).items}
    assert {job["metadata"]["name"] for job in foreign} <= left


def test_a_job_that_claims_to_be_a_later_attempt_of_ours_does_not_wedge_the_run(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("claimed", attempt_is("i1-generate", 1, trouble="Hang")))
    made.until_step("i1-generate", "Running")
    uid = made.read()["metadata"]["uid"]
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SelfAlignmentRun", "name": "claimed", "uid": uid}
    labels = {"selfalign.dev/run-uid": uid, STEP: "i1-generate", "selfalign.dev/attempt": "999999999"}
    cluster.batch.create_namespaced_job(namespace, foreign_job("claims", labels, [owner | {"controller": True}]))
    a_healthy_run_completes(cluster, namespace, "beside-a-claim")
    goes_on_after_a_suspension(made)


def test_an_object_that_has_a_childs_name_is_named_and_then_the_run_goes_on(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("named", suspend=True))
    made.until("Suspended", "True")
    name = workload_name("named", made.read()["metadata"]["uid"], "accept", 1)
    cluster.batch.create_namespaced_job(namespace, foreign_job(name, {}, []))
    made.patch({"spec": {"suspend": False}})
    assert name in made.until("Accepted", "False", "NameConflict")["message"]
    cluster.batch.delete_namespaced_job(name, namespace, propagation_policy="Background")
    made.until("Complete", "True", seconds=90)
