"""A whole cluster for tests: control plane, KWOK, GPU nodes, and a client of it."""

from __future__ import annotations

from pathlib import Path

from testbed import kwok
from testbed.administrator import Administrator
from testbed.control_plane import ControlPlane
from testbed.scripts import PREFIX, script
from testbed.waiting import until


class Cluster(Administrator):
    """A running cluster in `folder`, with an administrator's clients of it.

    Args:
        folder: an empty folder.
        nodes: how many nodes of 8 GPUs it starts with.
        outlives_us: it goes on when this process ends (else it dies with it).
        default_rates: its controllers ask as often as they do where nobody has tuned them.
    """

    def __init__(self, folder: Path, *, nodes: int = 2, outlives_us: bool = False, default_rates: bool = False) -> None:
        super().__init__(ControlPlane(folder, outlives_us=outlives_us, default_rates=default_rates))
        try:
            kwok.start(self.control_plane)
            for number in range(nodes):
                self.add_node(f"gpu-{number}")
            until(self.nodes_are_ready, "Ready node")
        except BaseException:
            self.stop()
            raise

    def add_node(self, name: str, gpus: int = 8) -> None:
        """Adds a node that KWOK plays."""
        self.core.create_node(kwok.node(name, gpus))

    def finish_pod(self, namespace: str, name: str, exit_code: int = 0, message: str = "") -> None:
        """Ends a pod of trouble Hang: the container `step` exits with this code and termination message."""
        annotations = {f"{PREFIX}/trouble": None, **script(exit_code=exit_code, message=message, run_seconds=0)}
        self.core.patch_namespaced_pod(name, namespace, {"metadata": {"annotations": annotations}})

    def lose_pods(self, namespace: str) -> None:
        """Deletes all pods of a namespace at once, also those of trouble StuckTerminating."""
        self.core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)

    def stop(self) -> None:
        """Ends all that was started."""
        self.control_plane.stop()
