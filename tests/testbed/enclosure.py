"""The kernel namespaces that a node lives in: its mounts, processes and network are gone when they are, however they end.

A kubelet on the machine itself would leave mounts, container processes, iptables chains and interfaces behind whenever a
test is killed. Here all of them die with one process, and that one with us.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed.processes import Process

HOST, NODE = "10.245.0.1", "10.245.0.2"  # the two ends of the cable between this machine and the node
PODS, GATEWAY = "10.244.0.0/24", "10.244.0.1"  # the node's bridge: pods on it reach the world through its address
CABLE, BRIDGE = "selfalign0", "cni0"
# What the node's programs write at fixed places.
OWN_FOLDERS = ("/run/containerd", "/var/lib/cni", "/var/log")
KEEPER = "echo up; while :; do sleep 60; done"  # process 1 inside: bash, which waits for orphans


class Enclosure:
    """Namespaces of mounts, processes and network, joined to this machine by a cable.

    Raises RuntimeError when another one is there: the addresses are fixed.
    """

    def __init__(self, folder: Path) -> None:
        if Path("/sys/class/net", CABLE).exists():
            raise RuntimeError(f"the interface {CABLE} is there: another test runs a node on this machine; wait for it")
        unshare = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
        log = folder / "enclosure.log"
        self._keeper = Process([*unshare, "bash", "-c", KEEPER], log)
        try:
            self._keeper.wait_until(lambda: "up" in log.read_text(), "a word")
            self._furnish(folder)
            self._connect()
        except BaseException:
            self.stop()
            raise

    @property
    def enter(self) -> list[str]:
        """What to put before a command for it to run inside, and to end with us."""
        spaces = f"/proc/{self._keeper.pid}/ns"
        inside = [f"--mount={spaces}/mnt", f"--net={spaces}/net", f"--pid={spaces}/pid_for_children"]
        return ["nsenter", *inside, "--", "setpriv", "--pdeathsig", "KILL", "--"]

    def stop(self) -> None:
        """Ends everything inside."""
        self._keeper.stop()

    def _furnish(self, folder: Path) -> None:
        self._inside("mount", "--make-rshared", "/")
        for own in OWN_FOLDERS:
            place = folder / "own" / own.strip("/").replace("/", "-")
            place.mkdir(parents=True)
            Path(own).mkdir(parents=True, exist_ok=True)
            self._inside("mount", "--bind", str(place), own)

    def _connect(self) -> None:
        inside, outside = self._inside, _run
        outside("ip", "link", "add", CABLE, "type", "veth", "peer", "name", "eth0", "netns", str(self._keeper.pid))
        outside("ip", "address", "add", f"{HOST}/30", "dev", CABLE)
        outside("ip", "link", "set", CABLE, "up")
        outside("ip", "route", "add", PODS, "via", NODE)
        inside("ip", "link", "set", "lo", "up")
        inside("ip", "address", "add", f"{NODE}/30", "dev", "eth0")
        inside("ip", "link", "set", "eth0", "up")
        inside("ip", "route", "add", "default", "via", HOST)
        inside("ip", "link", "add", BRIDGE, "type", "bridge")
        inside("ip", "address", "add", f"{GATEWAY}/{PODS.rpartition('/')[2]}", "dev", BRIDGE)
        inside("ip", "link", "set", BRIDGE, "up")
        inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def _inside(self, *command: str) -> None:
        _run(*self.enter, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
