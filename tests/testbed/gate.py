"""The apiserver's way to pods: it asks this gate, by HTTP CONNECT, for every connection to a pod or a node.

Pods of the testbed have addresses that nobody listens at. The apiserver is told to go through here
(EgressSelectorConfiguration), so pods/proxy reaches the program that plays a pod. Loopback addresses would not do
instead: the apiserver refuses to proxy to one, and to put one into an EndpointSlice.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD_LIMIT = 8192  # bytes of a CONNECT request
DIAL_SECONDS = 5.0
CHUNK = 65536

Route = Callable[[str], str | None]  # HOST:PORT as the cluster has it -> HOST:PORT on this machine


def write_egress_configuration(path: Path, name: str) -> Path:
    """The file for `--egress-selector-config-file`: everything inside the cluster goes through the gate of that name."""
    # An abstract socket (unix(7)): it needs no file, whose path may be 107 bytes long. By TCP the apiserver of 1.35 wants
    # TLS: with http:// it ends in a nil pointer (getTLSConfig).
    connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": f"@{name}"}}}
    configuration = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
    path.write_text(json.dumps(configuration))
    return path


@contextmanager
def gate(name: str, route: Route) -> Iterator[None]:
    """Serve under that name inside the block; what `route` does not know is refused."""
    server = _Gate(f"\0{name}", _Connection)
    server.route = route
    thread = threading.Thread(target=server.serve_forever, name="gate", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_open(name: str) -> bool:
    """Whether somebody serves under that name."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(f"\0{name}") == 0


class _Gate(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False  # a connection that the apiserver keeps does not hold us
    route: Route


class _Connection(socketserver.BaseRequestHandler):
    server: _Gate

    def handle(self) -> None:
        asked: socket.socket = self.request
        target = _target(asked)
        if not target:
            return
        found = self.server.route(target)
        if found is None:
            asked.sendall(b"HTTP/1.1 502 No such pod runs here\r\n\r\n")
            return
        host, _, port = found.rpartition(":")
        try:
            answering = socket.create_connection((host, int(port)), timeout=DIAL_SECONDS)
        except OSError:
            asked.sendall(b"HTTP/1.1 502 Its program does not answer\r\n\r\n")
            return
        with answering:
            answering.settimeout(None)
            asked.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(answering, asked), daemon=True)
            back.start()
            _pump(asked, answering)
            back.join()


def _target(asked: socket.socket) -> str:
    """HOST:PORT of `CONNECT HOST:PORT HTTP/1.1`; empty for anything else."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT and (more := asked.recv(CHUNK)):
        head += more
    method, _, rest = head.partition(b" ")
    return rest.partition(b" ")[0].decode(errors="replace") if method == b"CONNECT" else ""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one side is gone: so is the other
        for end in (source, sink):
            _close(end)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
