"""scheduler-plugins' scheduler of gangs beside a cluster, and its PodGroup, both as they lie in its Go module."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import yaml

from testbed.binaries import NoBinaries, binary
from testbed.cluster import Cluster
from testbed.processes import Process, free_port

MODULE = "sigs.k8s.io/scheduler-plugins@v0.34.7"
SUM = "h1:GENSA4rKpCKBrPvNSo2AV2QHU7j3a6LT14kNlHhXfeg="
SCHEDULER = "scheduler-plugins-scheduler"


def pod_group_crd() -> Path:
    """The file of its CRD. Raises NoBinaries where Go cannot fetch it."""
    go = shutil.which("go")
    if go is None:
        raise NoBinaries(f"no Go on PATH to fetch {MODULE}: install Go 1.26")
    done = subprocess.run([go, "mod", "download", "-json", MODULE], capture_output=True, text=True, cwd="/")
    if done.returncode != 0:
        raise NoBinaries(f"`go mod download {MODULE}` failed: {done.stdout}{done.stderr}")
    module = json.loads(done.stdout)
    if module["Sum"] != SUM:
        raise NoBinaries(f"{MODULE} has the sum {module['Sum']}, not {SUM}")
    return Path(module["Dir"]) / "manifests" / "coscheduling" / "crd.yaml"


def start_scheduler(cluster: Cluster, folder: Path) -> Process:
    """The scheduler at work, for pods that name it; the cluster's own goes on with the others."""
    gang = [{"name": "Coscheduling"}]
    profile = {
        "schedulerName": SCHEDULER,
        "plugins": {"multiPoint": {"enabled": gang}, "queueSort": {"enabled": gang, "disabled": [{"name": "*"}]}},
        "pluginConfig": [{"name": "Coscheduling", "args": {"permitWaitingTimeSeconds": 5}}],
    }
    configuration = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
        "profiles": [profile],
    }
    (folder / "scheduler.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    process = Process(
        [
            binary("coscheduling"),
            f"--config={folder / 'scheduler.yaml'}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
        ],
        folder / "coscheduling.log",
    )
    process.wait_for(f"https://127.0.0.1:{port}/readyz")
    return process
