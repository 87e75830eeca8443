"""The elastic agent, owned by the program: torchrun would turn every exit code of the ranks into 1."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.1
RANK_DEATH_SECONDS = 5  # what ranks have left when another one has failed
RANK = "selfalign_jobs.train.rank"  # the program of each


@dataclass(frozen=True)
class Nodes:
    """The nodes of a training, and which this one is."""

    count: int = 1
    index: int = 0
    address: str = "127.0.0.1"  # of this node
    head: str = "127.0.0.1"  # address of node 0
    port: int = 0  # on which node 0 meets the others
    deadline_seconds: int = 60  # for all of them to be there


def launch(job: Path, ranks: int, nodes: Nodes, stop: threading.Event, on_poll: Callable[[], None]) -> None:
    """Run this node's `ranks` processes of rank.py until they end; their outcomes are in files (job.py).

    `stop` is forwarded once, as SIGTERM: ranks then save and leave by themselves, however long that takes within the
    grace period; whoever runs this program ends it afterwards, and the ranks die with it. While other nodes are waited
    for there is nothing to save. `on_poll` is called every tenth of a second.
    """
    agent = _agent(job, ranks, nodes)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            agent.run()
        except BaseException as error:
            failure.append(error)

    # In a thread: in the main thread the agent would take SIGTERM for itself and kill the ranks before they save.
    thread = threading.Thread(target=run, name="elastic-agent", daemon=True)
    with _importable():
        thread.start()
        forwarded = False
        while thread.is_alive():
            if stop.is_set() and not forwarded:
                forwarded = _forward(agent)
                if not forwarded and nodes.count > 1:
                    return
            on_poll()
            time.sleep(POLL_SECONDS)
    thread.join()
    on_poll()
    if failure:
        raise RuntimeError(f"the {nodes.count} nodes of this training lost one another") from failure[0]


def _agent(job: Path, ranks: int, nodes: Nodes) -> Any:
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the outcomes say it better
    port = nodes.port or _free_port()
    rendezvous = RendezvousParameters(
        backend="static",
        endpoint=f"{nodes.head}:{port}",
        run_id="train",
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        rank=nodes.index,
        timeout=nodes.deadline_seconds,
    )
    spec = WorkerSpec(
        role="trainer",
        local_world_size=ranks,
        entrypoint=sys.executable,
        args=("-m", RANK, str(job)),
        rdzv_handler=get_rendezvous_handler(rendezvous),
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        master_addr=nodes.head,
        master_port=port,
        local_addr=nodes.address,
    )
    return LocalElasticAgent(spec, DefaultLogsSpecs(), shutdown_timeout=RANK_DEATH_SECONDS)


def _forward(agent: object) -> bool:
    """SIGTERM to every rank; False while they are not started yet."""
    context = getattr(agent, "_pcontext", None)  # no public name leads to it
    if context is None:
        return False
    for pid in context.pids().values():
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # it has just ended
            continue
    return True


@contextmanager
def _importable() -> Iterator[None]:
    """Ranks import what this process imports, however it found it (a checkout's sys.path, under pytest)."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in sys.path if path))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
