"""Servers over a folder whose folders are buckets: as Amazon's (versitygw), as Google's (fake-gcs-server)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed.binaries import binary
from testbed.processes import Process, free_port

ACCESS_KEY, SECRET_KEY = "testbed", "testbed-secret"


@dataclass(frozen=True)
class Buckets:
    """A running server."""

    scheme: str  # of its URLs
    root: Path
    environment: dict[str, str]  # by which its clients find it, and may write

    def bucket(self, name: str) -> Path:
        """Make a bucket; its folder."""
        folder = self.root / name
        folder.mkdir()
        return folder


@contextmanager
def amazon(folder: Path, address: str = "127.0.0.1") -> Iterator[Buckets]:
    """Serve a new folder's `root` at an address of this machine while the context lasts."""
    root, endpoint = folder / "root", f"{address}:{free_port()}"
    root.mkdir(parents=True)
    command: list[str | Path] = [binary("versitygw"), "--port", endpoint, "--health", "/health", "--quiet"]
    credentials = ["--access", ACCESS_KEY, "--secret", SECRET_KEY]
    server = Process([*command, *credentials, "posix", root], folder / "log.txt")
    environment = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": f"http://{endpoint}",
        "AWS_REGION": "us-east-1",
    }
    try:
        server.wait_for(f"http://{endpoint}/health")
        yield Buckets("s3", root, environment)
    finally:
        server.stop()


@contextmanager
def google(folder: Path) -> Iterator[Buckets]:
    """Serve a new folder's `root` on loopback while the context lasts. It takes any key that its client can sign with."""
    root, port = folder / "root", free_port()
    root.mkdir(parents=True)
    endpoint = f"http://127.0.0.1:{port}"
    place = ("-backend=filesystem", f"-filesystem-root={root}", "-host=127.0.0.1", f"-port={port}", "-scheme=http")
    known_as = (f"-external-url={endpoint}", f"-public-host=127.0.0.1:{port}", "-log-level=warn")
    server = Process([binary("fake-gcs-server"), *place, *known_as], folder / "log.txt")
    environment = {
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": endpoint,
        "GOOGLE_APPLICATION_CREDENTIALS": str(_service_account(folder / "service-account.json")),
    }
    try:
        server.wait_for(f"{endpoint}/_internal/healthcheck")
        yield Buckets("gs", root, environment)
    finally:
        server.stop()


def _service_account(path: Path) -> Path:
    """The key file of a service account that signs its own tokens: Google need not be asked."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "project_id": "testbed",
        "private_key_id": "1",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": "testbed@testbed.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path.write_text(json.dumps(account))
    return path
