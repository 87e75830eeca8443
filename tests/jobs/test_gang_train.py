"""A training gang: two node programs, each with a rank and a work folder of its own; stopped, resumed, and left alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import trainings
from run_files import entry_arguments
from safetensors.torch import load_file

from selfalign_api.plan import Plan
from selfalign_api.training_values import Loss
from selfalign_jobs.entry import run_step
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.ending import ending
from selfalign_jobs.train.checkpoint import newest
from testbed.processes import free_port

pytestmark = pytest.mark.heavy
STEPS = 16
SETTINGS = {"global_batch_size": 8, "epochs": STEPS * 8 / 40, "learning_rate": 3e-4, "seed": 7}
TWO_RANKS = {"nodes": 2, "zero_stage": 2, "micro_batch_tokens": 120}
HEAD = "127.0.0.1"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """DPO on the tiny model, in float32."""
    return trainings.training(loss=Loss(type="dpo", beta=0.5), settings=SETTINGS)[0]


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    return trainings.pairs(40)


class Node:
    """A node program; on one CPU, as each of two ranks on one machine has."""

    def __init__(self, gang: Gang, index: int, context: StepContext) -> None:
        folder = gang.folder / f"node-{index}-{context.config.attempt}"
        folder.mkdir()
        self.address, self.message_file, self.log = folder / "address", folder / "message", folder / "log"
        environment = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "SELFALIGN_GANG_SIZE": "2",
            "SELFALIGN_GANG_HEAD": gang.head,
            "SELFALIGN_GANG_PORT": str(gang.port),  # as on the network of a node, which other gangs share
            "SELFALIGN_STARTUP_SECONDS": "60",
            "JOB_COMPLETION_INDEX": str(index),
            "POD_IP": gang.head,
            "OMP_NUM_THREADS": "1",
        }
        options = ["--address-file", str(self.address), "--termination-message", str(self.message_file)]
        arguments = entry_arguments(context.config, folder)
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                ["taskset", "--cpu-list", one_cpu(index), sys.executable, "-m", "selfalign_jobs", *arguments, *options],
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def message(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.message_file.read_text())
        return said

    def progress(self) -> dict[str, Any]:
        """`/progress`; empty before it is served."""
        try:
            with urllib.request.urlopen(f"http://{self.address.read_text()}/progress") as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (OSError, ValueError):
            return {}

    def wait_for_step(self, step: int) -> None:
        while (now := self.progress()).get("phase") != "train" or now["done"] < step:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.01)


def one_cpu(index: int) -> str:
    cpus = sorted(os.sched_getaffinity(0))
    return str(cpus[index % len(cpus)])


class Gang:
    """Its node programs, in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.head = folder, free_port(), HEAD
        self.nodes: list[Node] = []

    def start(self, index: int, context: StepContext) -> Node:
        self.nodes.append(Node(self, index, context))
        return self.nodes[-1]


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    made = Gang(tmp_path)
    yield made
    for node in made.nodes:
        node.process.kill()
        node.process.wait()


def weights(context: StepContext) -> dict[str, torch.Tensor]:
    assert context.folder.local is not None
    return load_file(context.folder.local / "model" / "model.safetensors")


def test_stopped_on_one_node_and_resumed_it_ends_as_two_ranks_on_one_node_do(
    tmp_path: Path, gang: Gang, plan: Plan, pairs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    together = trainings.context(plan, tmp_path / "one-node", pairs, **TWO_RANKS)
    assert ending(lambda: run_step(together))[0] == 0

    first = trainings.context(plan, tmp_path / "gang", pairs, **TWO_RANKS)
    head, other = gang.start(0, first), gang.start(1, first)
    head.wait_for_step(3)
    other.process.send_signal(signal.SIGTERM)  # its node is drained
    assert (other.process.wait(), head.process.wait()) == (75, 75), head.log.read_text()[-3000:]
    saved = newest(first.folder)
    assert saved is not None
    assert f"stopped after step {saved.step} of {STEPS}" in head.message["stopped"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} < set(saved.files)  # each from the node that has it

    gang.head = "::1"  # as in a cluster of IPv6 alone
    second = trainings.context(plan, tmp_path / "gang", pairs, attempt=2, **TWO_RANKS)
    other, head = gang.start(1, second), gang.start(0, second)
    assert (head.process.wait(), other.process.wait()) == (0, 0), head.log.read_text()[-3000:]
    assert head.message["result"]["steps"] == STEPS
    assert other.message == {"step": "iter-1-train", "attempt": 2, "index": 1}
    expected, found = weights(together), weights(second)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [name for name in second.folder.files() if name.startswith("work/")] == []


def test_a_wrong_configuration_is_exit_64_on_every_node(
    tmp_path: Path, gang: Gang, plan: Plan, pairs: pa.Table
) -> None:
    """One that only the ranks find out: the loss is no number."""
    diverging, _ = trainings.training(settings={"learning_rate": 1e30, "warmup_ratio": 0.0, "global_batch_size": 8})
    context = trainings.context(diverging, tmp_path / "gang", pairs, **TWO_RANKS)
    nodes = [gang.start(index, context) for index in (0, 1)]
    assert [node.process.wait() for node in nodes] == [64, 64], nodes[1].log.read_text()[-3000:]
    assert all("the training diverged" in node.message["error"] for node in nodes)


def test_a_node_without_its_head_stops_at_once(tmp_path: Path, gang: Gang, plan: Plan, pairs: pa.Table) -> None:
    context = trainings.context(plan, tmp_path / "gang", pairs, **TWO_RANKS)
    other = gang.start(1, context)
    while other.progress().get("phase") != "helping":
        assert other.process.poll() is None
        time.sleep(0.01)
    other.process.send_signal(signal.SIGTERM)
    assert other.process.wait() == 75
    assert "stopped before the training began" in other.message["stopped"]


def test_a_head_without_its_nodes_stops_at_once(tmp_path: Path, gang: Gang, plan: Plan, pairs: pa.Table) -> None:
    context = trainings.context(plan, tmp_path / "gang", pairs, **TWO_RANKS)
    head = gang.start(0, context)
    while True:
        assert head.process.poll() is None
        try:
            with socket.create_connection((HEAD, gang.port), timeout=1):
                break
        except OSError:
            time.sleep(0.05)
    head.process.send_signal(signal.SIGTERM)
    assert head.process.wait() == 75
