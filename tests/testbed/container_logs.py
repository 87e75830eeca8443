"""The logs of played pods, as a kubelet serves them: the apiserver asks here, through the gate, for `kubectl logs`.

GET /containerLogs/NAMESPACE/POD/CONTAINER with follow, timestamps and sinceTime, by TLS. Line N of a log has the time N ms after
the first: the same at each reading, as a container runtime's files have it.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from testbed.certificates import Authority
from testbed.gate import gate
from testbed.player import Player

KUBELET_PORT = 10250  # of the nodes, in stages.yaml
LOOK_SECONDS = 0.1
FIRST = datetime(2026, 1, 1, tzinfo=UTC)

LogOf = Callable[[str, str], tuple[Path, bool] | None]  # of namespace and pod: its log, and whether it goes on


@contextmanager
def way_to_pods(gate_name: str, player: Player) -> Iterator[None]:
    """Inside the block the apiserver reaches the programs that are played, and their logs."""
    player.folder.mkdir(parents=True, exist_ok=True)
    with (
        serving_logs(player.log_of, player.folder) as logs,
        gate(gate_name, lambda target: logs if target.endswith(f":{KUBELET_PORT}") else player.route(target)),
    ):
        yield


@contextmanager
def serving_logs(log_of: LogOf, folder: Path) -> Iterator[str]:
    """Serve inside the block, with a certificate in `folder` that nobody checks; HOST:PORT of this machine."""
    certificate, key = Authority().server(["localhost"], ["127.0.0.1"]).write(folder, "logs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.log_of = log_of
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, name="logs", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # somebody may follow
    log_of: LogOf


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        _, kind, namespace, pod, *_ = [*parts.path.split("/"), "", "", ""]
        found = self.server.log_of(namespace, pod) if kind == "containerLogs" else None
        if found is None:
            self.send_error(404, f"no log of {namespace}/{pod}")
            return
        query = parse_qs(parts.query)
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # whoever followed has gone
            for moment, line in _lines(
                found[0], lambda: _goes_on(self.server.log_of(namespace, pod)), "follow" in query
            ):
                self.wfile.write((moment if "timestamps" in query else b"") + line)
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _goes_on(found: tuple[Path, bool] | None) -> bool:
    return found is not None and found[1]


def _lines(log: Path, goes_on: Callable[[], bool], follow: bool) -> Iterator[tuple[bytes, bytes]]:
    """Each line with its time before it."""
    number = 0
    with log.open("rb") as file:
        rest = b""
        while True:
            ends = not (follow and goes_on())  # before the look: what was written until then is read
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in [*lines, *([rest] if ends and rest else [])]:
                moment = (FIRST + timedelta(milliseconds=number)).isoformat(timespec="microseconds")
                yield f"{moment} ".encode(), line + b"\n"
                number += 1
            if ends:
                return
            time.sleep(LOOK_SECONDS)
