"""A player at work beside a test: it runs the real programs of pods that are annotated so (testbed/player.py)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client

from testbed.administrator import api_client
from testbed.cluster import Cluster
from testbed.container_logs import way_to_pods
from testbed.player import LOOK_SECONDS, Player

REAL_PROGRAM = (sys.executable, "-m", "selfalign_jobs")


@contextmanager
def playing(cluster: Cluster, folder: Path, command: Sequence[str]) -> Iterator[None]:
    """A player at work, beside the test, inside the block."""
    player = Player(client.CoreV1Api(api_client(cluster.kubeconfig)), folder / "pods", command)
    over = threading.Event()

    def work() -> None:
        with way_to_pods(cluster.control_plane.gate, player):
            while not over.wait(LOOK_SECONDS):
                player.play()
            player.stop(grace_seconds=5)

    thread = threading.Thread(target=work, name="player")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
