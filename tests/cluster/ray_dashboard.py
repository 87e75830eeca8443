"""The job API of Ray's dashboards, played for the pods that KWOK plays, at the addresses where KubeRay asks for it.

A pod of KWOK has no program, so KubeRay's connections go through here by HTTP_PROXY. A dashboard answers while the head pod of
its cluster runs, as a real one does; how a job ends stands in `says`.
Source: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from testbed.cluster import Cluster

STEP = re.compile(r"--step (\S+) --attempt (\d+)")
SERVICE = re.compile(r"(?P<cluster>.+)-head-svc\.(?P<namespace>[^.]+)\.svc\.")


@dataclass(frozen=True)
class Said:
    """What a dashboard says of a job."""

    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED
    message: str = ""


@dataclass
class Dashboards:
    """All of a cluster's; `says` has what becomes of a job, by step and attempt. What is not there succeeds at once."""

    cluster: Cluster
    says: dict[tuple[str, int], Said] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)  # that KubeRay has shown
    stopped: list[str] = field(default_factory=list)  # jobs that it has asked to stop
    _jobs: dict[str, tuple[str, int]] = field(default_factory=dict)  # submission -> step and attempt

    def __post_init__(self) -> None:
        """Serve."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
        self._server.dashboards = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, name="dashboards", daemon=True).start()

    @property
    def proxy(self) -> str:
        """The value of HTTP_PROXY."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()

    def runs(self, host: str) -> bool:
        """Whether the head runs whose Service has that name."""
        found = SERVICE.match(host)
        if found is None:
            return False
        labels = f"ray.io/cluster={found['cluster']},ray.io/node-type=head"
        pods = self.cluster.core.list_namespaced_pod(found["namespace"], label_selector=labels).items
        return any(pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None for pod in pods)

    def submit(self, request: dict[str, Any]) -> dict[str, Any]:
        """A job begins."""
        found = STEP.search(request["entrypoint"])
        assert found is not None, request
        self._jobs[request["submission_id"]] = (found[1], int(found[2]))
        return {"job_id": request["submission_id"], "submission_id": request["submission_id"]}

    def job(self, submission: str) -> dict[str, Any] | None:
        """How it is; None for one that was not submitted."""
        if submission not in self._jobs:
            return None
        said = self.says.get(self._jobs[submission], Said("SUCCEEDED"))
        now = int(time.time() * 1000)
        ended = {} if said.status in ("PENDING", "RUNNING") else {"end_time": now}
        return {"status": said.status, "message": said.message, "submission_id": submission, "start_time": now} | ended


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(json.loads(body) if body else {})

    def _answer(self, request: dict[str, Any]) -> None:
        dashboards: Dashboards = self.server.dashboards  # type: ignore[attr-defined]
        url = urlsplit(self.path)
        if not dashboards.runs(url.hostname or ""):
            self.close_connection = True  # without an answer
            return
        dashboards.tokens.add(self.headers.get("x-ray-authorization", ""))
        name = url.path.removeprefix("/api/jobs/")
        answer: dict[str, Any] | None
        if self.command == "POST" and not name:
            answer = dashboards.submit(request)
        elif self.command == "POST":
            dashboards.stopped.append(name.removesuffix("/stop"))
            answer = {"stopped": True}
        else:
            answer = dashboards.job(name)
        body = json.dumps(answer or {}).encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""
