"""A gang: the pods of one attempt, that start, live and end together. What a pod knows of its own it has from its environment."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 2.0
RENDEZVOUS_PORT = 29500


@dataclass(frozen=True)
class Gang:
    """A pod's place in its gang. Index 0 is the head: Ray's head and driver, or the node of rank 0."""

    size: int
    index: int
    head: str  # host name of index 0, looked up anew each time: a pod that replaces it has another address
    address: str  # of this pod
    port: int = RENDEZVOUS_PORT  # at which the head of a training meets the others

    @classmethod
    def here(cls, environment: Mapping[str, str]) -> Gang | None:
        """The gang that this pod is in; None for a pod, or a machine, of its own. KeyError for half a description."""
        size = int(environment.get("SELFALIGN_GANG_SIZE", "1"))
        if size == 1:
            return None
        index = int(environment["JOB_COMPLETION_INDEX"])
        port = int(environment.get("SELFALIGN_GANG_PORT", RENDEZVOUS_PORT))
        return cls(size, index, environment["SELFALIGN_GANG_HEAD"], environment["POD_IP"], port)

    def find_head(self, port: int, give_up: Callable[[], bool]) -> str | None:
        """The head's address once it listens on `port`; None when `give_up` says so before. Looks every second."""
        while not give_up():
            if (address := _address_of(self.head)) is not None and _listens(address, port):
                return address
            time.sleep(LOOK_SECONDS)
        return None

    def head_has_left(self, address: str, port: int) -> bool:
        """Whether the head that was at `address` is gone for certain: its name is another pod's, or nobody listens there.

        One that only cannot be reached is not: the network may come back.
        """
        if _address_of(self.head) not in (None, address):
            return True
        try:
            with socket.create_connection((address, port), timeout=CONNECT_SECONDS):
                return False
        except ConnectionRefusedError:
            return True
        except OSError:
            return False


def _address_of(host: str) -> str | None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # it has no pod yet, or the one that is gone is not replaced yet
        return None
    return str(found[0][4][0])


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
