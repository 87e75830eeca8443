"""An image of a few files, as a docker-archive: what a node needs that has no registry."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

SANDBOX = "localhost/selfalign-testbed-sandbox:1"  # what holds a pod's namespaces
HOST = "localhost/selfalign-testbed-host:1"  # an empty root, for pods that bring this machine's programs by volumes


def write_sandbox(path: Path) -> None:
    """The image SANDBOX: a program that sleeps."""
    busybox = shutil.which("busybox")
    assert busybox is not None  # machine.check
    _write(path, SANDBOX, lambda layer: layer.add(busybox, "busybox"), ["/busybox", "sleep", "2147483647"])


def write_host(path: Path) -> None:
    """The image HOST: where a program looks for its libraries lead links to /usr, which a volume is to fill."""

    def fill(layer: tarfile.TarFile) -> None:
        for name in ("usr", "etc", "tmp"):
            _add(layer, name, tarfile.DIRTYPE)
        for name in ("bin", "sbin", "lib", "lib64"):
            _add(layer, name, tarfile.SYMTYPE, f"usr/{name}")
        layer.add("/etc/alternatives", "etc/alternatives")  # links: c++ is one

    _write(path, HOST, fill, [])


def _write(path: Path, name: str, fill: Callable[[tarfile.TarFile], None], command: list[str]) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as layer:
        fill(layer)
    digest = hashlib.sha256(body.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": body.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, "w") as archive:
        for member, content in files.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _add(layer: tarfile.TarFile, name: str, kind: bytes, target: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, target, 0o755
    layer.addfile(entry)
