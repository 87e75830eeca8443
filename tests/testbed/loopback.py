"""A network that is nothing but a loopback, for containers and the servers that they may reach: a hub, a bucket."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000


class Loopback:
    """A network namespace. What listens within `inside` is reached from containers that are given `path`."""

    def __init__(self, name: str) -> None:
        self.path = Path("/run/netns") / name

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, is in the network meanwhile; a socket that it opens there stays there."""
        with Path("/proc/thread-self/ns/net").open() as outside:
            _enter(self.path)
            try:
                yield
            finally:
                _set(outside.fileno())


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A new network, gone at the end. Needs root."""
    name = f"selfalign-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Loopback(name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _enter(network: Path) -> None:
    with network.open() as file:
        _set(file.fileno())


def _set(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
