"""Ray for one step: what its processes are told, and a session that is gone at the end."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.gang import Gang

OBJECT_STORE_BYTES = 128 << 20  # reports are small and read at once
ROOM_BYTES = 16 << 20  # that a session's logs and sockets take at least
PLACE_CHARACTERS = 24  # of a folder's path that has room for Ray's below it
RAY_PORT = 6379  # of the head of a gang
START_SECONDS = 120  # for its first process, on a machine that is full of other work; Ray allows 30
RECONNECT_SECONDS = 20  # how long a node looks for a head that is gone, before it ends and joins the next


def ray_resources(means: GenerationMeans) -> dict[str, int]:
    """What an engine takes of a node: its actor asks Ray for it."""
    gpus = means.tensor_parallel_size if means.device == "GPU" else 0
    return {"num_cpus": 1, "num_gpus": gpus, "object_store_memory": OBJECT_STORE_BYTES}


def node_resources(means: GenerationMeans, *, pod: bool) -> dict[str, int]:
    """What Ray is told that a pod of a gang has, or a machine: room for the engines of any one model."""
    engines = means.most_in_pod if pod else means.most_engines
    gpus = means.gpus_of_pod if pod else means.most_gpus
    return {"num_cpus": engines, "num_gpus": gpus, "object_store_memory": OBJECT_STORE_BYTES}


def ray_environment(drain_seconds: int = 0) -> dict[str, str]:
    """What Ray's processes read; what the pod says already stays."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",  # a run reports to nobody
        # Ray's ports are closed to all without it. Left out, Ray would keep one in the home folder.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_SECONDS),
        "RAY_gcs_server_port_wait_time_s": str(START_SECONDS),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_seconds),
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def engines_here(means: GenerationMeans, lineage: str, gang: Gang | None) -> int:
    """Engines of a model on one node: all of them on a machine, a pod's in a gang or a cluster that is there."""
    if gang is not None or os.environ.get("RAY_ADDRESS"):
        return means.in_pod(lineage)
    return means.of(lineage).replicas


@contextmanager
def ray_session(means: GenerationMeans, gang: Gang | None) -> Iterator[None]:
    """Ray for one step: the cluster that RAY_ADDRESS names, or one of our own, gone at the end.

    Our own is this machine, or, as the head of a gang, this pod and those that join it (helper.py).
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    folder = None if os.environ.get("RAY_ADDRESS") else sockets_folder()
    try:
        _init_ray(means, gang, folder)
    except SystemExit:  # by the handler of SIGTERM that Ray puts in the place of the step's own
        raise Stopped("stopped while Ray started; the next attempt begins there") from None
    except Exception as error:
        if folder is not None and shutil.disk_usage(folder).free < ROOM_BYTES:  # Ray only says that it timed out
            raise OSError(errno.ENOSPC, "Ray did not start: no space left on device", folder) from error
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # of a Ray that did not start, its logs stay


def sockets_folder() -> str:
    """A new folder for a session of Ray: a socket's path bears 107 bytes, Ray adds some 70, and splits commands at spaces.

    Our own, for /tmp/ray may be another user's, or another Ray's. Raises OSError where no place will do.
    """
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if len(place) <= PLACE_CHARACTERS and re.fullmatch(r"[\w./+-]+", place, re.ASCII) and os.access(place, os.W_OK):
            return tempfile.mkdtemp(prefix="sa-", dir=place)
    raise OSError(errno.EACCES, "Ray's sockets need a folder with a short name: neither /tmp nor TMPDIR can be written")


def _init_ray(means: GenerationMeans, gang: Gang | None, folder: str | None) -> None:
    if folder is None:
        ray.init(logging_level=logging.ERROR)
        return
    os.environ.update(ray_environment())
    os.environ.setdefault("VLLM_RPC_BASE_PATH", folder)  # of the sockets between an engine and its workers
    if gang is not None:
        os.environ["RAY_GCS_SERVER_PORT"] = str(RAY_PORT)
    ray.init(
        address="local",  # unset, Ray joins any cluster that is, or was, on this machine
        **node_resources(means, pod=gang is not None),
        include_dashboard=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
        _node_ip_address=gang.address if gang is not None else None,
    )
