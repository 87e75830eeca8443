"""What a step program shows while it runs: `/progress` (JSON, for status and panel) and `/metrics` (Prometheus)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from selfalign_jobs.step.metrics import Metrics

RATE_WINDOW_SECONDS = 30.0


@dataclass
class Progress:
    """Where a step is. Thread-safe; cheap enough to call for each record."""

    step: str
    metrics: Metrics = field(default_factory=Metrics)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _phase: str = "starting"
    _unit: str = "records"
    _done: int = 0
    _total: int = 0
    _updated: float = field(default_factory=time.time)
    _history: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=512), repr=False)
    _figures: dict[str, float] = field(default_factory=dict)

    def begin(self, phase: str, total: int, unit: str, done: int = 0) -> None:
        """Start a phase of `total` units, `done` of them from an earlier attempt."""
        with self._lock:
            self._phase, self._unit, self._done, self._total = phase, unit, done, total
            self._history.clear()
            self._touch()
        self.metrics.total.labels(phase, unit).set(total)
        self.metrics.done.labels(phase, unit).set(done)
        self.metrics.moved.set_to_current_time()

    def advance(self, done: int) -> None:
        """`done` units of the phase are finished now."""
        with self._lock:
            moved, self._done = done != self._done, done
            self._touch()
        self.metrics.done.labels(self._phase, self._unit).set(done)
        if moved:
            self.metrics.moved.set_to_current_time()

    def show(self, **figures: float) -> None:
        """Figures beside the bar: tokensPerSecond, loss, … (local/panel.py)."""
        with self._lock:
            self._figures.update(figures)
            self._updated = time.time()

    def _touch(self) -> None:
        self._updated = time.time()
        self._history.append((time.monotonic(), self._done))

    def snapshot(self) -> dict[str, Any]:
        """The `/progress` document; perSecond is over the last half minute, etaSeconds None while nothing moves."""
        with self._lock:
            now = time.monotonic()
            recent = [entry for entry in self._history if now - entry[0] <= RATE_WINDOW_SECONDS] or list(self._history)[
                -1:
            ]
            first = recent[0] if recent else (now, self._done)
            elapsed = now - first[0]
            rate = (self._done - first[1]) / elapsed if elapsed > 0 else 0.0
            return {
                "step": self.step,
                "phase": self._phase,
                "done": self._done,
                "total": self._total,
                "unit": self._unit,
                "perSecond": round(rate, 3),
                "etaSeconds": round((self._total - self._done) / rate, 1) if rate > 0 else None,
                "updateTime": self._updated,
                "figures": dict(self._figures),
            }


class _Server(ThreadingHTTPServer):
    """On one address; without a host on all of this machine's, of both families where it has both."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        super().__init__((host, port), handler, bind_and_activate=False)
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        try:
            self.server_bind()
            self.server_activate()
        except BaseException:
            self.server_close()
            raise


class ProgressServer:
    """Serves one step's `/progress` and `/metrics` on `host:port` (no host: all, port 0: any free one) until closed."""

    def __init__(self, progress: Progress, host: str, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/progress":
                    self._answer("application/json", json.dumps(progress.snapshot()).encode())
                elif self.path == "/metrics":
                    self._answer(CONTENT_TYPE_LATEST, generate_latest(progress.metrics.registry))
                else:
                    self.send_error(404, "only /progress and /metrics are served")

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """A line a scrape would drown the step's own."""

        self._server = _Server(host.strip("[]"), port, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="progress", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
