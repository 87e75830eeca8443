"""The operator is replaced by one with other templates amid many runs: what is under way stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from operators import CONFIG, OperatorProcess
from runs import Run, run, said_by_step, step_is

from testbed.cluster import Cluster
from testbed.waiting import until

RUNS = 100
OTHER = """
images: {generate: example.invalid/generate:2, train: example.invalid/train:2}
profiles:
  default:
    compute:
      podTemplate: {metadata: {labels: {made-by: "2"}}, spec: {priorityClassName: system-node-critical}}
network:
  progress: [{namespace: monitoring}]
"""


def jobs_of(cluster: Cluster, namespace: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → resourceVersion and spec of every Job."""
    found = cluster.batch.list_namespaced_job(namespace).items
    return {job.metadata.name: (job.metadata.resource_version, job.spec.to_dict()) for job in found}


def settled(cluster: Cluster, namespace: str) -> bool:
    """Whether the Job controller has said all that it knows: who hangs is ready, the others are Complete."""
    jobs = cluster.batch.list_namespaced_job(namespace).items
    ended = [
        any(each.type == "Complete" and each.status == "True" for each in job.status.conditions or ()) for job in jobs
    ]
    return all(done or job.status.ready == 1 for job, done in zip(jobs, ended, strict=True))


def test_an_operator_with_other_templates_changes_and_repeats_no_job_of_100_runs(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    options = ("--no-leader-election", f"--namespace={namespace}")
    first = OperatorProcess(tmp_path / "first", cluster.kubeconfig, *options, config=CONFIG)
    second = None
    try:
        runs = [
            Run(cluster, namespace, run(f"r{number}", step_is("i1-generate", trouble="Hang"))) for number in range(RUNS)
        ]

        def hanging() -> list[Any]:
            found = cluster.core.list_namespaced_pod(namespace, label_selector="selfalign.dev/step=i1-generate").items
            return [pod for pod in found if pod.status.phase == "Running"]

        until(lambda: len(hanging()) == RUNS, "pod of every run", 180, pause=0.5)
        until(lambda: all(made.step("i1-generate").get("state") == "Running" for made in runs), "status of every run")
        assert first.stop() == 0
        until(lambda: settled(cluster, namespace), "status of every Job, by its controller")
        before = jobs_of(cluster, namespace)
        second = OperatorProcess(tmp_path / "second", cluster.kubeconfig, *options, config=OTHER)
        second.wait_ready()
        until(lambda: looked_at(second) >= RUNS, "look at every run")
        assert jobs_of(cluster, namespace) == before
        for pod in hanging():
            labels = pod.metadata.labels
            said = said_by_step().replace("$(selfalign.dev/step)", labels["selfalign.dev/step"])
            said = said.replace("$(selfalign.dev/attempt)", labels["selfalign.dev/attempt"])
            cluster.finish_pod(namespace, pod.metadata.name, 0, said)
        for made in runs:
            made.until("Complete", "True", seconds=180)
        after = jobs_of(cluster, namespace)
        assert {name: after[name][1] for name in before} == {name: spec for name, (_, spec) in before.items()}
        assert len(after) == 4 * RUNS
        images = {
            job[1]["template"]["spec"]["containers"][0]["image"] for name, job in after.items() if name not in before
        }
        assert images == {"example.invalid/generate", "example.invalid/train"}, (
            "a run keeps the images that it began with"
        )
    finally:
        first.stop(9)  # type: ignore[arg-type]
        if second is not None:
            second.stop(9)  # type: ignore[arg-type]


def looked_at(operator: OperatorProcess) -> float:
    """How many reconciliations it has finished."""
    name = "selfalign_operator_reconcile_duration_seconds_count"
    lines = (operator.read("/metrics") or "").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
