"""`kubectl selfalign logs`, `report`, `pairs` on a real control plane: programs that are played write logs, and are killed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from person import Person, allowed, editor, role
from playing import playing
from report_run import Chances, make_run
from runs import Run, run

from testbed.cluster import Cluster
from testbed.scripts import REAL
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")
PROGRAM = (sys.executable, str(Path(__file__).with_name("logging_step.py")))
CLAIM = "selfalign"


@pytest.fixture
def person(cluster: Cluster, namespace: str) -> Person:
    return editor(cluster, namespace)


@pytest.fixture
def made(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Run]:
    """A run whose programs wait for the test's word."""
    claim = tmp_path / CLAIM
    claim.mkdir()
    cluster.add_claim(namespace, CLAIM, claim)
    manifest = run("told", storage={"url": f"pvc://{CLAIM}/runs"})
    manifest["spec"]["compute"]["podTemplate"] = {"metadata": {"annotations": REAL}}
    with playing(cluster, tmp_path, PROGRAM):
        made = Run(cluster, namespace, manifest)
        yield made
        made.delete()


def go(folder: Path, step: str, attempt: int, word: str) -> None:
    (folder / CLAIM / "runs" / f"go-{step}-{attempt}").write_text(word)


def piece(step: str, attempt: int) -> list[str]:
    lines = [f"{step}/{attempt} line {number}" for number in range(3)]
    return [f"==> {step}, attempt {attempt} <==", *lines, f"{step}/{attempt} ends"]


LIFE = (
    ("accept", 1, "0"),
    ("i1-generate", 1, "crash"),
    ("i1-generate", 2, "0"),
    ("i1-train", 1, "0"),
    ("i1-evaluate", 1, "0"),
)


def follow(person: Person, output: Path, *options: str) -> Any:
    with output.open("wb") as file:
        return person.start("logs", "told", "-f", *options, stdout=file)


def test_a_log_is_followed_through_a_kill_and_every_step_each_line_once(
    cluster: Cluster, person: Person, made: Run, tmp_path: Path
) -> None:
    output = tmp_path / "followed"
    process = follow(person, output)
    (tmp_path / CLAIM / "runs").mkdir(exist_ok=True)
    for step, attempt, word in LIFE:
        until(lambda s=step, n=attempt: f"{s}/{n} line 2\n" in output.read_text(), f"the log of {step} {attempt}", 120)
        go(tmp_path, step, attempt, word)
    assert process.wait(timeout=120) == 0
    expected = [line for step, attempt, _ in LIFE for line in piece(step, attempt)]
    assert output.read_text().splitlines() == expected
    assert person.sees("logs", "told").splitlines() == expected
    assert person.sees("logs", "told", "--step=i1-generate").splitlines() == [
        *piece("i1-generate", 1),
        *piece("i1-generate", 2),
    ]
    for job in made.jobs():
        cluster.batch.delete_namespaced_job(job.metadata.name, made.namespace, propagation_policy="Background")
    until(lambda: not [pod for step, _, _ in LIFE for pod in made.pods(step)], "end of all pods")
    assert person.sees("logs", "told").splitlines() == expected  # from the storage
    assert person.sees("logs", "told", "-f", "--step=i1-generate").splitlines() == [
        *piece("i1-generate", 1),
        *piece("i1-generate", 2),
    ]
    assert not readers(cluster, made)
    code, _, complaint = person.types("logs", "told", "--step=i9-train")
    assert code == 64
    assert "there are accept, i1-generate, i1-train, i1-evaluate" in complaint


def readers(cluster: Cluster, made: Run) -> list[str]:
    found = cluster.core.list_namespaced_pod(made.namespace, label_selector="selfalign.dev/reader").items
    return [pod.metadata.name for pod in found if pod.metadata.deletion_timestamp is None]


def test_report_and_pairs_are_read_by_a_pod_that_goes(
    cluster: Cluster, person: Person, made: Run, tmp_path: Path
) -> None:
    made.until_step("accept", "Running", seconds=120)
    code, _, complaint = person.types("pairs", "told")
    assert code == 64
    assert "the run was not accepted yet" in complaint
    there = make_run(tmp_path / "made", Chances(personas=60, held_out=20)).folder
    shutil.copytree(there.path, tmp_path / CLAIM / "runs" / made.namespace / "told", dirs_exist_ok=True)
    person.sees("report", "told", "-o", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    pairs = [json.loads(line) for line in person.sees("pairs", "told", "-n", "5", "-o", "json").splitlines()]
    assert len(pairs) == 5
    assert pairs[0]["chosen"] in (shown := person.sees("pairs", "told", "-n", "5"))
    assert "pair 5 of 5, iteration 1" in shown
    assert not readers(cluster, made)


def test_who_may_only_look_is_told_which_right_reading_needs(
    cluster: Cluster, person: Person, made: Run, tmp_path: Path
) -> None:
    made.until_step("accept", "Running", seconds=120)
    viewer = allowed(cluster, made.namespace, "watcher", "--clusterrole=view")
    rule = {"apiGroups": ["selfalign.dev"], "resources": ["selfalignmentruns"], "verbs": ["get", "list"]}
    allowed(cluster, made.namespace, "watcher", role(cluster, made.namespace, "of-runs", [rule]))
    code, _, complaint = viewer.types("report", "told")
    assert code == 64
    assert "watcher may not create pods in namespace" in complaint
    assert until(lambda: "accept/1 line 0" in viewer.sees("logs", "told"), "the log of a running pod")


def test_following_one_step_ends_with_it(person: Person, made: Run, tmp_path: Path) -> None:
    output = tmp_path / "followed"
    process = follow(person, output, "--step=accept")
    until(lambda: "accept/1 line 2\n" in output.read_text(), "the log of accept", 120)
    (tmp_path / CLAIM / "runs").mkdir(exist_ok=True)
    go(tmp_path, "accept", 1, "0")
    assert process.wait(timeout=120) == 0
    assert output.read_text().splitlines() == piece("accept", 1)
    assert made.status["state"] != "Complete"
