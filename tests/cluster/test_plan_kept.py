"""What a run began with stays with it: somebody deletes its objects, and the operator that comes next has other images."""

from __future__ import annotations

from pathlib import Path

from operators import CONFIG, OperatorProcess
from runs import Run, attempt_is, finish, run, step_is

from testbed.cluster import Cluster
from testbed.waiting import until

HANGS = {"trouble": "Hang"}
OURS = "configmap,networkpolicy,service,secret"


def own_objects(cluster: Cluster, made: Run) -> set[str]:
    labels = f"selfalign.dev/run-uid={made.uid}"
    return set(cluster.kubectl("get", OURS, f"-n={made.namespace}", f"-l={labels}", "-o=name").split())


def test_objects_that_somebody_deleted_are_there_again_before_the_next_steps_pods(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    operator = OperatorProcess(tmp_path, cluster.kubeconfig, "--no-leader-election", f"--namespace={namespace}")
    try:
        gang = {"generation": {"replicas": 2}}
        made = Run(cluster, namespace, run("robbed", step_is("i1-generate", **HANGS), compute=gang))
        until(lambda: made.pods("i1-generate"), "pods of generate")
        there = own_objects(cluster, made)
        assert len(there) == 4
        cluster.kubectl("delete", f"-n={namespace}", *there)
        finish(cluster, made, "i1-generate")
        until(lambda: made.pods("i1-train"), "pods of train")
        assert own_objects(cluster, made) == there
        made.until("Complete", "True")
    finally:
        operator.stop()


def robbed(cluster: Cluster, namespace: str, folder: Path, name: str) -> Run:
    """A run under way whose ConfigMap and Job somebody deletes while no operator looks."""
    first = OperatorProcess(folder / "first", cluster.kubeconfig, "--no-leader-election", f"--namespace={namespace}")
    made = Run(cluster, namespace, run(name, attempt_is("i1-generate", 1, **HANGS)))
    until(lambda: made.pods("i1-generate"), "pods of generate")
    first.stop()
    cluster.kubectl("delete", "configmap", f"-n={namespace}", f"-l=selfalign.dev/run-uid={made.uid}")
    cluster.batch.delete_namespaced_job(made.jobs()[-1].metadata.name, namespace, propagation_policy="Background")
    return made


def upgraded(cluster: Cluster, namespace: str, folder: Path) -> OperatorProcess:
    """An operator with other images."""
    where = ("--no-leader-election", f"--namespace={namespace}")
    return OperatorProcess(
        folder / "second", cluster.kubeconfig, *where, config=CONFIG.replace("invalid/", "invalid/new-")
    )


def images(made: Run) -> set[str]:
    return {container.image for job in made.jobs() for container in job.spec.template.spec.containers}


def test_a_lost_plan_is_made_again_of_the_status(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    made = robbed(cluster, namespace, tmp_path, "restored")
    plan = made.status["plan"]["configMapName"]
    second = upgraded(cluster, namespace, tmp_path)
    try:
        made.until("Complete", "True")
        assert images(made) == {"example.invalid/generate", "example.invalid/train"}  # not those of today
        cluster.kubectl("get", "configmap", f"-n={namespace}", plan)
        assert "content" not in made.status["plan"]
        assert "PlanLost" not in made.events()
    finally:
        second.stop()


def test_a_lost_plan_is_not_resolved_anew_in_silence(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    made = robbed(cluster, namespace, tmp_path, "planned")
    forgotten = '{"status": {"plan": {"content": null}}}'
    cluster.kubectl(
        "patch", f"-n={namespace}", "sar", made.name, "--subresource=status", "--type=merge", "-p", forgotten
    )
    second = upgraded(cluster, namespace, tmp_path)
    try:
        lost = made.until("Progressing", "False", "PlanLost")
        assert "is gone" in lost["message"]
        assert (made.status["state"], made.step("i1-generate")["attempts"]) == ("Held", 1)
        made.patch({"metadata": {"annotations": {"selfalign.dev/retry": "1"}}})
        made.until("Complete", "True")
        assert "PlanLost" in made.events()
    finally:
        second.stop()
