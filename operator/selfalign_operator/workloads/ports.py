"""Ports of a step's pods. Ranks in the network of their nodes (a profile's hostNetwork, for RDMA) have some of their attempt's own.

There each is a port of the node, which the scheduler gives to one pod alone: two gangs share a node because theirs differ,
two ranks of a gang never do, and where two attempts have drawn the same, one waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.names import workload_name
from selfalign_operator.views import PROGRESS_PORT, Manifest

__all__ = ["FIRST", "PAIRS", "Ports", "is_on_host", "ports_of"]

# Below Kubernetes' node ports (30000) and those that kernels give away by themselves (32768).
FIRST, PAIRS = 20_000, 5_000


@dataclass(frozen=True)
class Ports:
    """Where a pod listens for others."""

    progress: int = PROGRESS_PORT
    rendezvous: int | None = None  # of a training's nodes; None: the program's own

    @property
    def of_container(self) -> list[Manifest]:
        """As the container `step` names them; on a node's network they are the node's."""
        if self.rendezvous is None:
            return [{"name": "progress", "containerPort": self.progress}]
        named = {"progress": self.progress, "rendezvous": self.rendezvous}
        return [{"name": name, "containerPort": port, "hostPort": port} for name, port in named.items()]


def is_on_host(effective: EffectiveRun, attempt: Attempt) -> bool:
    """Whether the attempt's pods are in the network of their nodes: engines talk within their pod, one rank to nobody."""
    gang = attempt.kind == "train" and not attempt.collect and effective.means.training.nodes > 1
    return gang and effective.platform.host_network


def ports_of(effective: EffectiveRun, attempt: Attempt) -> Ports:
    """The ports of an attempt's pods, always the same."""
    if not is_on_host(effective, attempt):
        return Ports()
    name = f"{effective.uid}/{workload_name(effective.name, effective.uid, attempt.step, attempt.number)}"
    first = FIRST + 2 * (int(sha256(name.encode()).hexdigest(), 16) % PAIRS)
    return Ports(first, first + 1)
