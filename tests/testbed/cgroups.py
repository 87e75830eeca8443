"""The control groups that a node's pods are in: made before it starts, removed after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from testbed.waiting import until

MOUNT = Path("/sys/fs/cgroup")
ROOT = "selfalign-testbed"  # of the kubelet


def make() -> None:
    """An empty group in every hierarchy; what an earlier node has left is removed first."""
    remove()
    for hierarchy in _hierarchies():
        (hierarchy / ROOT).mkdir()


def remove() -> None:
    """Removes the groups once the processes in them are gone. Raises TimeoutError while there are some."""
    until(lambda: all(_remove(hierarchy / ROOT) for hierarchy in _hierarchies()), "empty control group")


def _hierarchies() -> Iterator[Path]:
    """Version 2 has one, version 1 one for each controller (some of them by two names)."""
    if (MOUNT / "cgroup.controllers").exists():
        yield MOUNT
    else:
        yield from (each for each in MOUNT.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink())


def _remove(group: Path) -> bool:
    if not group.exists():
        return True
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:  # a process is ending in it
            return False
    return True
