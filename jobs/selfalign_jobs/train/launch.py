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
from pathlib import Path

POLL_SECONDS = 0.1
RANK_DEATH_SECONDS = 5  # what ranks have left when another one has failed


def launch(job: Path, ranks: int, stop: threading.Event, on_poll: Callable[[], None]) -> None:
    """Run `ranks` processes of rank.py on this machine until they end; their outcomes are in files (job.py).

    `stop` is forwarded once, as SIGTERM: ranks then save and leave by themselves, however long that takes within the
    grace period; whoever runs this program ends it afterwards, and the ranks die with it. `on_poll` is called
    every tenth of a second.
    """
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the outcomes say it better
    port = _free_port()
    rendezvous = RendezvousParameters(
        backend="static", endpoint=f"127.0.0.1:{port}", run_id="train", min_nodes=1, max_nodes=1, rank=0, timeout=60
    )
    spec = WorkerSpec(
        role="trainer",
        local_world_size=ranks,
        entrypoint=sys.executable,
        args=("-m", "selfalign_jobs.train.rank", str(job)),
        rdzv_handler=get_rendezvous_handler(rendezvous),
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        master_addr="127.0.0.1",
        master_port=port,
        local_addr="127.0.0.1",
    )
    agent = LocalElasticAgent(spec, DefaultLogsSpecs(), shutdown_timeout=RANK_DEATH_SECONDS)
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
            on_poll()
            time.sleep(POLL_SECONDS)
    thread.join()
    on_poll()
    if failure:
        raise RuntimeError("the elastic agent failed") from failure[0]


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
