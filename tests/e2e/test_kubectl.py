"""`kubectl selfalign` on a real kubelet: a log followed through a kill, kept where pods are gone, the report read by a pod.

The run is gated, tracked by a real MLflow server, and has a Benchmark check of tasks on its claim.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gang_run import STEPS, GangRun, tiny
from person import editor
from shown_by_mlflow import Shown

from testbed.enclosure import HOST
from testbed.mlflow import TrackingServer, install, serve
from testbed.real_cluster import RealCluster
from testbed.standing import CLAIM
from testbed.waiting import until

PERSONAS = 2000
SECONDS = 600
TASKS = {
    "tasks": ["tiny_requests", "tiny_numbers"],
    "tasksUrl": f"pvc://{CLAIM}/tiny-model/tasks",
    "limit": 100,
    "prompts": "Chat",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    """A tracking server that pods reach."""
    install()
    with serve(tmp_path / "mlflow", HOST) as running:
        yield running


@pytest.mark.timeout(1200)
def test_a_run_is_followed_through_a_kill_and_read_when_its_pods_are_gone(
    cluster: RealCluster, namespace: str, tmp_path: Path, server: TrackingServer
) -> None:
    person = editor(cluster, namespace)
    manifest = tiny(
        "watched",
        PERSONAS,
        failurePolicy={"backoffSeconds": 0, "maxBackoffSeconds": 1},
        tracking={"type": "MLflow", "url": server.url, "experiment": "e2e"},
    )
    manifest["spec"]["evaluation"]["checks"].append({"name": "board", "type": "Benchmark", "benchmark": TASKS})
    manifest["spec"]["evaluation"]["gates"] = [{"check": "board", "figure": "value", "atLeast": 0.1}]
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
    followed = output.read_bytes().decode()
    heads = [line for line in followed.split("\n") if line.startswith("==> ")]
    pieces = [
        ("i1-generate", 1),
        ("i1-train", 1),
        ("i1-train", 2),
        ("i1-evaluate", 1),
        ("gates", 1),
    ]  # accept said nothing
    assert heads == [f"==> {step}, attempt {attempt} <==" for step, attempt in pieces]
    person.sees("report", "watched", "-o", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_bytes() == run.folder.read("report.html")
    pairs = person.sees("pairs", "watched", "-n", "3", "-o", "json").splitlines()
    assert [bool(json.loads(pair)["chosen"]) for pair in pairs] == [True] * 3
    for job in run.jobs():
        cluster.batch.delete_namespaced_job(job.metadata.name, namespace, propagation_policy="Background")
    until(lambda: not [pod for step, _ in pieces for pod in run.pods(step)], "end of all pods", 120)
    kept = by_attempt(person.sees("logs", "watched"))
    told = by_attempt(followed)
    assert list(kept) == list(told) == heads
    killed = "==> i1-train, attempt 1 <=="  # its container whole: it may have lost its last seconds
    for head in heads:
        lines = [line for line in told[head] if "\r" not in line]
        assert [line for line in lines if line not in kept[head]] == [] or head == killed
    assert kept[killed]
    figures = json.loads(run.folder.read("summary.json"))["benchmarks"]
    assert figures.keys() == {"tiny_requests.exact_match", "tiny_numbers.acc"}
    told = {figure["name"]: figure["value"] for figure in run.status["results"]}
    assert float(told["board.tiny_numbers.acc.after"]) == pytest.approx(figures["tiny_numbers.acc"]["after"])
    seen = Shown(server, "e2e")
    assert {name: len(runs) for name, runs in seen.runs.items()} == dict.fromkeys(("watched", *STEPS, "gates"), 1)
    assert seen.run("watched")["info"]["status"] == "FINISHED"
    curve = seen.curve("watched", "eval/board.tiny_requests.exact_match.after")
    assert curve == [(1, pytest.approx(figures["tiny_requests.exact_match"]["after"]))]
    steps = [step for step, _ in seen.curve("i1-train", "train/loss")]
    assert steps == [*range(1, len(steps) + 1)]  # each once, though the training was killed


def by_attempt(log: str) -> dict[str, list[str]]:
    """The lines under each head."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in log.split("\n"):
        if line.startswith("==> "):
            lines = found.setdefault(line, [])
        else:
            lines.append(line)
    return found
