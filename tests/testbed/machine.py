"""What a real node takes of this machine, and how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = {  # program -> package of Debian
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
}
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("bridge", "host-local", "loopback")


class NoNode(RuntimeError):
    """This machine cannot be a node; the message says what it lacks and what to do."""


def cni_folder() -> Path:
    """Where the CNI plugins are. Raises NoNode."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    raise NoNode("the CNI plugins are missing: apt-get install containernetworking-plugins")


def check() -> None:
    """Raises NoNode, naming all that is missing."""
    if os.geteuid() != 0:
        raise NoNode("a node needs root: containers, mounts and network interfaces are made")
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if missing:
        raise NoNode(f"programs are missing: apt-get install {' '.join(missing)}")
    cni_folder()
    if subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True).returncode != 0:
        raise NoNode(
            "root may make no namespaces here, as in a container without privileges: take a machine, or --privileged"
        )
