"""An S3 server over a folder, versitygw: a folder of it is a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.binaries import binary
from testbed.processes import Process, free_port

ACCESS_KEY, SECRET_KEY = "testbed", "testbed-secret"


@dataclass(frozen=True)
class Buckets:
    """A running server."""

    root: Path
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """By which its clients find it, and may write."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self, name: str) -> Path:
        """Make a bucket; its folder."""
        folder = self.root / name
        folder.mkdir()
        return folder


@contextmanager
def buckets(root: Path, log: Path, address: str = "127.0.0.1") -> Iterator[Buckets]:
    """Serve the folder at an address of this machine while the context lasts."""
    port = free_port()
    command: list[str | Path] = [binary("versitygw"), "--port", f"{address}:{port}", "--health", "/health", "--quiet"]
    credentials = ["--access", ACCESS_KEY, "--secret", SECRET_KEY]
    root.mkdir(parents=True, exist_ok=True)
    server = Process([*command, *credentials, "posix", root], log)
    try:
        server.wait_for(f"http://{address}:{port}/health")
        yield Buckets(root, f"http://{address}:{port}")
    finally:
        server.stop()
