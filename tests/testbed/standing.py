"""A cluster that stays for a person to try: a run that is applied to it runs for real, on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import yaml
from kubernetes import client

from testbed.administrator import api_client
from testbed.binaries import binary
from testbed.cluster import Cluster
from testbed.container_logs import way_to_pods
from testbed.gate import is_open
from testbed.player import LOOK_SECONDS, Player
from testbed.processes import Process, free_port, stop_by_pid
from testbed.scripts import REAL

REPOSITORY = Path(__file__).parents[2]
CRD = REPOSITORY / "crds" / "selfalignmentruns.yaml"
EXAMPLE_MODEL = REPOSITORY / "examples" / "tiny-model"
CLAIM = "selfalign"  # what the examples name
STOP_SECONDS = 20.0  # what running programs get when the cluster goes down
PIDS = "pids.json"

# The images are names only: no image is pulled, the player runs this environment's programs.
OPERATOR_CONFIG = {
    "images": {"generate": "selfalign/generate:local", "train": "selfalign/train:local"},
    "profiles": {"default": {"compute": {"device": "CPU", "podTemplate": {"metadata": {"annotations": REAL}}}}},
}


def up(folder: Path, *, with_operator: bool, default_rates: bool = False) -> None:
    """Starts a cluster in `folder` that goes on after us, in place of one that is there."""
    down(folder)
    folder.mkdir(parents=True)
    start = time.monotonic()
    cluster = Cluster(folder, outlives_us=True, default_rates=default_rates)
    pids = {process.name: process.pid for process in cluster.control_plane.processes}
    _remember(folder, pids)
    _furnish(cluster, folder)
    player = _start_player(folder, cluster.control_plane.gate)
    _remember(folder, pids | {"player": player.pid})
    player.wait_until(lambda: is_open(cluster.control_plane.gate), "open gate")
    if with_operator:
        port = free_port()
        operator = Process(_operator_command(folder, port), folder / "logs" / "operator.log", outlives_us=True)
        _remember(folder, pids | {"player": player.pid, "operator": operator.pid})
        operator.wait_for(f"http://127.0.0.1:{port}/readyz")
    _tell(folder, time.monotonic() - start, with_operator)


def play(folder: Path, gate_name: str) -> None:
    """Plays the pods of the cluster in `folder` until SIGTERM."""
    player = Player(client.CoreV1Api(api_client(folder / "kubeconfig")), folder / "pods")
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    with way_to_pods(gate_name, player):
        while not stopping:
            player.play()
            time.sleep(LOOK_SECONDS)
        player.stop(STOP_SECONDS)


def down(folder: Path) -> None:
    """Ends the cluster in `folder`, if there is one, and removes the folder."""
    pids = folder / PIDS
    if pids.exists():
        running: dict[str, int] = json.loads(pids.read_text())
        for name in ("operator", "player"):  # before the cluster under them
            if name in running:
                stop_by_pid(running.pop(name), mark=str(folder), how=signal.SIGTERM)
        for pid in running.values():
            stop_by_pid(pid, mark=str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def _remember(folder: Path, pids: dict[str, int]) -> None:
    (folder / PIDS).write_text(json.dumps(pids))


def _furnish(cluster: Cluster, folder: Path) -> None:
    """The CRD, the claim that the examples name with the tiny model in it, and the operator's configuration."""
    cluster.add_crd(CRD)
    place = folder / "claims" / CLAIM
    shutil.copytree(EXAMPLE_MODEL, place / EXAMPLE_MODEL.name)
    cluster.add_claim("default", CLAIM, place)
    (folder / "operator.yaml").write_text(yaml.safe_dump(OPERATOR_CONFIG, sort_keys=False))


def _start_player(folder: Path, gate_name: str) -> Process:
    command = [sys.executable, "-m", "testbed", "play", f"--folder={folder}", f"--gate={gate_name}"]
    return Process(command, folder / "logs" / "player.log", outlives_us=True)


def _operator_command(folder: Path, port: int) -> list[str]:
    options = [f"--kubeconfig={folder}/kubeconfig", f"--config={folder}/operator.yaml", f"--listen=127.0.0.1:{port}"]
    return [sys.executable, "-m", "selfalign_operator.cli", *options, "--progress-through-apiserver"]


def _tell(folder: Path, seconds: float, with_operator: bool) -> None:
    print(f"A cluster with two nodes of 8 GPUs (played by KWOK) is up after {seconds:.0f} s.\n")
    if not with_operator:
        print("The operator that you run:\n")
        print(f"  {' '.join(_operator_command(folder, free_port()))}\n")
    print("A run on it (its programs run on this machine, a few minutes; results in the folder of the claim):\n")
    print(f"  export KUBECONFIG={folder}/kubeconfig PATH={binary('kubectl').parent}:$PATH")
    print("  kubectl apply -f examples/sao-tiny.yaml")
    print("  kubectl get sar -w\n")
    print(f"Logs: {folder}/logs, of a pod {folder}/pods/NAMESPACE/POD/log.txt; the claim: {folder}/claims/{CLAIM}.")
    print("`make cluster-down` ends it and removes all of that.")
