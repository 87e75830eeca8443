"""Plays pods for real: runs the step program of each on this machine, in place of the kubelet that the testbed lacks.

It plays the pods that are annotated so (`scripts.REAL`) once KWOK has them Running, and leaves all others alone. A
program's end becomes the pod's; a deleted pod's program gets SIGTERM, and SIGKILL after the grace period. It retries
nothing: whether there is another attempt is the operator's to say.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import urllib3
from kubernetes import client

from selfalign_api.outcome import TERMINATION_MESSAGE_BYTES, Exit
from selfalign_api.platform import STEP_CONTAINER
from selfalign_operator.views import PROGRESS_PORT
from testbed.played_pod import ADDRESS, LOG, MESSAGE, RUN_FILE, Json, Launch, NotPlayable, launch_of
from testbed.scripts import REAL

LOOK_SECONDS = 0.3
LOG_END_BYTES = 2048  # FallbackToLogsOnError, as a kubelet has it
NAME = "app.kubernetes.io/name=selfalign"  # label of every pod that is made for a run
LOST = 137  # exit code of a container that a kubelet lost


class Program:
    """The running program of one pod; its files lie in `folder`."""

    def __init__(self, command: Sequence[str], launch: Launch, folder: Path) -> None:
        self.folder = folder
        self._kill_at: float | None = None
        (folder / RUN_FILE).write_text(launch.run_file)
        with (folder / LOG).open("wb") as output:
            self._child = subprocess.Popen(
                [*command, *launch.arguments],
                env=launch.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask_to_stop(self, grace_seconds: float) -> None:
        """SIGTERM, once; SIGKILL when the grace period is over."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + grace_seconds
            self._child.terminate()
        elif time.monotonic() > self._kill_at and self._child.poll() is None:
            self.kill()

    def kill(self) -> None:
        """End it at once, with what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def exit_code(self) -> int | None:
        """Of its end, as a container has it; None while it runs."""
        if self._child.returncode is None and self._child.poll() is not None:
            with suppress(ProcessLookupError):  # what it has left behind goes with its container
                os.killpg(self._child.pid, signal.SIGKILL)
        code = self._child.returncode
        return code if code is None or code >= 0 else 128 - code

    def message(self, exit_code: int) -> str:
        """Its termination message; the end of its log when it failed and left none."""
        file = self.folder / MESSAGE
        if file.exists():
            return file.read_bytes()[:TERMINATION_MESSAGE_BYTES].decode(errors="replace")
        return (self.folder / LOG).read_text(errors="replace")[-LOG_END_BYTES:] if exit_code else ""

    def address(self) -> str | None:
        """HOST:PORT where it answers; None while it has none."""
        file = self.folder / ADDRESS
        return (file.read_text() or None) if file.exists() else None


@dataclass
class Player:
    """Plays the pods of one cluster, one look at them after another.

    Args:
        core: an administrator's client.
        folder: NAMESPACE/POD below it gets the files of a pod: its run file, its log, its message.
        command: the step program.
    """

    core: client.CoreV1Api
    folder: Path
    command: Sequence[str] = (sys.executable, "-m", "selfalign_jobs")
    _programs: dict[str, Program] = field(default_factory=dict, init=False)  # by the pod's uid
    _addresses: dict[str, Program] = field(default_factory=dict, init=False)  # by the pod's IP

    def play(self) -> None:
        """Look once, and do what is due. A cluster that does not answer is asked again at the next look."""
        try:
            pods = {pod["metadata"]["uid"]: pod for pod in self._running()}
            for uid in self._programs.keys() - pods.keys():  # gone without us: its node would have killed it
                program = self._forget(uid)
                if program.exit_code() is None:
                    program.kill()
            for uid, pod in pods.items():
                self._play_one(uid, pod)
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            print(f"player: {error}", file=sys.stderr, flush=True)

    def route(self, target: str) -> str | None:
        """Where the program of a pod listens, for HOST:PORT as the cluster has it."""
        ip, _, port = target.rpartition(":")
        program = self._addresses.get(ip)
        return program.address() if program is not None and port == str(PROGRESS_PORT) else None

    def log_of(self, namespace: str, pod: str) -> tuple[Path, bool] | None:
        """The log of a pod that was played, and whether its program still runs."""
        log = self.folder / namespace / pod / LOG
        if not log.exists():
            return None
        return log, any(program.folder == log.parent for program in list(self._programs.values()))

    def stop(self, grace_seconds: float) -> None:
        """End all programs: whoever stops the player has no more use for them."""
        while any(program.exit_code() is None for program in self._programs.values()):
            for program in self._programs.values():
                program.ask_to_stop(grace_seconds)
            time.sleep(LOOK_SECONDS / 3)

    def _running(self) -> list[Json]:
        answer = self.core.list_pod_for_all_namespaces(
            label_selector=NAME, field_selector="status.phase=Running", _preload_content=False
        )
        pods: list[Json] = json.loads(answer.data)["items"]
        name, value = next(iter(REAL.items()))
        return [pod for pod in pods if pod["metadata"].get("annotations", {}).get(name) == value]

    def _play_one(self, uid: str, pod: Json) -> None:
        program = self._programs.get(uid)
        if program is None:
            self._start(uid, pod)
            return
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            program.ask_to_stop(metadata["deletionGracePeriodSeconds"])
        code = program.exit_code()
        if code is not None:
            self._end(pod, code, program.message(code))
            self._forget(uid)

    def _start(self, uid: str, pod: Json) -> None:
        metadata = pod["metadata"]
        folder = self.folder / metadata["namespace"] / metadata["name"]
        if "deletionTimestamp" in metadata:
            self._end(pod, 128 + signal.SIGTERM, "")
            return
        if folder.exists():
            self._end(pod, LOST, json.dumps({"error": "the testbed's player was started anew, and lost the program"}))
            return
        try:
            launch = launch_of(pod, self.core, folder)
        except NotPlayable as error:
            self._end(pod, Exit.CONFIG, json.dumps({"error": str(error)}))
            return
        folder.mkdir(parents=True)
        program = Program(self.command, launch, folder)
        self._programs[uid] = self._addresses[pod["status"]["podIP"]] = program
        print(f"player: {metadata['namespace']}/{metadata['name']} runs; its log: {folder / LOG}", flush=True)

    def _end(self, pod: Json, exit_code: int, message: str) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.core.patch_namespaced_pod_status(name, namespace, {"status": _ended(pod, exit_code, message)})
        print(f"player: {namespace}/{name} ended with {exit_code}", flush=True)

    def _forget(self, uid: str) -> Program:
        program = self._programs.pop(uid)
        self._addresses = {ip: each for ip, each in self._addresses.items() if each is not program}
        return program


def _ended(pod: Json, exit_code: int, message: str) -> Json:
    """The status of a pod whose container `step` has ended so, as a kubelet writes it; the others exit 0 with it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    well = exit_code == 0
    conditions = [
        {"type": kind, "status": "False", "reason": "PodCompleted" if well else "PodFailed", "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady")
    ]
    statuses = []
    for container in pod["status"]["containerStatuses"]:
        code = exit_code if container["name"] == STEP_CONTAINER else 0
        ended = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": container["state"]["running"]["startedAt"],
            "finishedAt": now,
        }
        if message and container["name"] == STEP_CONTAINER:
            ended["message"] = message
        statuses.append(container | {"ready": False, "started": False, "state": {"terminated": ended}})
    return {"phase": "Succeeded" if well else "Failed", "conditions": conditions, "containerStatuses": statuses}
