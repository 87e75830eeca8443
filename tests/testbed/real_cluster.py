"""A whole cluster whose one node is this machine: control plane and node, and a client of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from testbed import cgroups, machine
from testbed.administrator import Administrator
from testbed.control_plane import ControlPlane
from testbed.enclosure import HOST, Enclosure
from testbed.node import Node
from testbed.waiting import until


class RealCluster(Administrator):
    """A running cluster in `folder`, an empty folder: pods are containers of this machine. It ends with this process.

    Raises NoNode where this machine cannot be a node.
    """

    def __init__(self, folder: Path) -> None:
        machine.check()
        with ExitStack() as undo:
            undo.callback(cgroups.remove)
            enclosure = Enclosure(folder)
            undo.callback(enclosure.stop)
            super().__init__(ControlPlane(folder, address=HOST))
            undo.callback(self.control_plane.stop)
            self.node = Node(self.control_plane, enclosure, folder)
            until(self.nodes_are_ready, "Ready node")
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Ends everything and leaves only the files in the folder."""
        self._undo.close()
