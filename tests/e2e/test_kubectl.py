"""`kubectl selfalign` on a real kubelet: a log followed through a kill, kept where pods are gone, the report read by a pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gang_run import GangRun, tiny
from person import editor

from testbed.real_cluster import RealCluster
from testbed.waiting import until

PERSONAS = 2000
SECONDS = 600


@pytest.mark.timeout(1200)
def test_a_run_is_followed_through_a_kill_and_read_when_its_pods_are_gone(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    person = editor(cluster, namespace)
    manifest = tiny("watched", PERSONAS, failurePolicy={"backoffSeconds": 0, "maxBackoffSeconds": 1})
    manifest["spec"]["compute"] |= {"generation": {"replicas": 1}, "training": {"nodes": 1}}
    manifest["spec"]["compute"]["training"] |= {"checkpointIntervalSeconds": 5}
    run = GangRun(cluster, namespace, tmp_path, manifest)
    output = tmp_path / "followed"
    with output.open("wb") as file:
        following = person.start("logs", "watched", "-f", stdout=file)
    run.until_checkpoint(SECONDS)
    cluster.node.kill(run.until_runs("i1-train", 0, SECONDS))
    run.until_complete(SECONDS)
    assert following.wait(timeout=120) == 0
    followed = output.read_text()
    heads = [line for line in followed.splitlines() if line.startswith("==> ")]
    pieces = [("accept", 1), ("i1-generate", 1), ("i1-train", 1), ("i1-train", 2), ("i1-evaluate", 1)]
    assert heads == [f"==> {step}, attempt {attempt} <==" for step, attempt in pieces]
    person.sees("report", "watched", "-o", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_bytes() == run.folder.read("report.html")
    pairs = person.sees("pairs", "watched", "-n", "3", "-o", "json").splitlines()
    assert [bool(json.loads(pair)["chosen"]) for pair in pairs] == [True] * 3
    for job in run.jobs():
        cluster.batch.delete_namespaced_job(job.metadata.name, namespace, propagation_policy="Background")
    until(lambda: not [pod for step, _ in pieces for pod in run.pods(step)], "end of all pods", 120)
    kept = person.sees("logs", "watched")
    assert [line for line in kept.splitlines() if line.startswith("==> ")] == heads
    written = [line for line in followed.splitlines() if "\r" not in line]
    lost = [line for line in written if line not in kept]
    assert len(lost) <= len(written) // 20, lost  # the seconds before a container was killed whole
