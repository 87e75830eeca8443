"""A pod of a generation gang that is not its head: a Ray node, on which Ray starts one of the step's engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.session import RAY_PORT, node_resources, ray_environment, sockets_folder
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.step.gang import LOOK_SECONDS, Gang

DRAIN_SECONDS = 1  # between SIGTERM and the end of a Ray node: what it held is leased again anyway
AGAIN_SECONDS = 1.0  # between the end of a node, whose head is gone, and the next look for a head


def help_head(gang: Gang, means: GenerationMeans, stop: threading.Event) -> NoReturn:
    """Join the head's cluster, and the next head's when it is replaced, until told to stop; then raises Stopped.

    It never ends because a head has left. And it never ends well: an index that did would not be replaced.
    """
    node = _Node(gang, means)
    # In a thread of its own: a look-up of the head's name can hang for many seconds.
    threading.Thread(target=node.join_for_ever, name="helper", daemon=True).start()
    stop.wait()
    node.end()
    raise Stopped("it served the gang's head until it was told to stop")


class _Node:
    def __init__(self, gang: Gang, means: GenerationMeans) -> None:
        self._gang, self._means = gang, means
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def join_for_ever(self) -> None:
        while (address := self._gang.find_head(RAY_PORT, lambda: self._ended)) is not None:
            print(f"joins the head at {address}", flush=True)
            with self._lock:
                if self._ended:
                    return
                process = self._process = subprocess.Popen(
                    self._command(address), env=os.environ | ray_environment(DRAIN_SECONDS), start_new_session=True
                )
            code = self._wait_while_led(process, address)
            print(f"the head is gone, or was never ready (ray start ended with {code})", flush=True)
            time.sleep(AGAIN_SECONDS)

    def _wait_while_led(self, process: subprocess.Popen[bytes], address: str) -> int:
        """Until the node ends. Ray ends it `RECONNECT_SECONDS` after its head; once that has left for certain, we do."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(LOOK_SECONDS)
            if self._gang.head_has_left(address, RAY_PORT):
                _end(process)

    def end(self) -> None:
        """End the node, at once if need be."""
        with self._lock:
            self._ended = True
        if self._process is not None:
            _end(self._process)

    def _command(self, address: str) -> list[str]:
        options = {
            "address": f"{f'[{address}]' if ':' in address else address}:{RAY_PORT}",
            "node-ip-address": self._gang.address,
        }
        options |= {"temp-dir": sockets_folder()}  # else where the head has its own
        options |= {name.replace("_", "-"): str(value) for name, value in node_resources(self._means, pod=True).items()}
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        return [*start, *(f"--{name}={value}" for name, value in options.items())]


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(DRAIN_SECONDS + 0.5)
