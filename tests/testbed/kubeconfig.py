"""Kubeconfig files with everything inside: they may be copied."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from testbed.certificates import Pair, write_private


def write_for_certificate(path: Path, server: str, authority: bytes, pair: Pair) -> Path:
    """A kubeconfig whose user shows a client certificate."""
    user = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
    return _write(path, server, authority, user)


def write_for_token(path: Path, server: str, authority: bytes, token: str) -> Path:
    """A kubeconfig whose user shows a bearer token, as a service account does."""
    return _write(path, server, authority, {"token": token})


def _write(path: Path, server: str, authority: bytes, user: dict[str, str]) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "testbed", "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}
        ],
        "users": [{"name": "testbed", "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
        "current-context": "testbed",
    }
    write_private(path, yaml.safe_dump(config).encode())
    return path


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
