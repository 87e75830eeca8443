"""The operator's image as its Dockerfile makes it, on a base of this machine's distribution: no registry is asked.

Kept in the cache: the base for good, the image by the hash of all that goes into it. buildah keeps its layers there too,
so that changed source is a new last layer, in seconds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed.binaries import cache, locked

REPOSITORY = Path(__file__).parents[2]
NAME = "localhost/selfalign-operator"
BASE = "localhost/debian-python:bookworm"
DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm")
DOCKERFILE = "images/operator/Dockerfile"
PARTS = (DOCKERFILE, ".dockerignore", "requirements/operator.txt", "crds/selfalign_api", "operator/selfalign_operator")
KEPT = 3  # archives
AUTHORITIES = "/etc/ssl/certs"  # also those of this network


def tag() -> str:
    """The tag of the image that the sources make now."""
    digest = hashlib.sha256(" ".join(DEBOOTSTRAP).encode())
    for file in _files():
        digest.update(f"{file.relative_to(REPOSITORY)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def build() -> Path:
    """The image `NAME:tag()` as a docker-archive, built where it is not in the cache. Raises RuntimeError."""
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"operator-{tag()}.tar"
    with locked(folder / ".lock"):
        if not archive.exists():
            if not _buildah_has(BASE):
                _build_base(folder / "rootfs")
            _build_operator(archive)
            _forget(folder)
    return archive


def _build_base(rootfs: Path) -> None:
    shutil.rmtree(rootfs, ignore_errors=True)  # of a build that was killed
    _run(*DEBOOTSTRAP, str(rootfs))
    container = _buildah("from", "scratch").strip()
    _buildah("add", "--quiet", container, str(rootfs), "/")
    _buildah("commit", "--quiet", container, BASE)
    _buildah("rm", container)
    shutil.rmtree(rootfs)


def _build_operator(archive: Path) -> None:
    name = f"{NAME}:{tag()}"
    authorities = ["--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro"]
    arguments = [f"BASE={BASE}", f"PIP_CERT={AUTHORITIES}/ca-certificates.crt", "VERSION=test", f"REVISION={tag()}"]
    given = [f"--build-arg={argument}" for argument in arguments]
    _buildah("bud", "--quiet", "--layers", *authorities, *given, "--file", DOCKERFILE, "--tag", name, str(REPOSITORY))
    scratch = archive.with_suffix(".part")
    scratch.unlink(missing_ok=True)
    _buildah("push", "--quiet", name, f"docker-archive:{scratch}:{name}")
    scratch.replace(archive)  # whole or not at all


def _forget(folder: Path) -> None:
    """All but the newest archives: each has the whole base in it."""
    archives = sorted(folder.glob("operator-*.tar"), key=lambda archive: archive.stat().st_mtime)
    for archive in archives[:-KEPT]:
        archive.unlink()


def _buildah_has(name: str) -> bool:
    return bool(_buildah("images", "--quiet", "--filter", f"reference={name}").strip())


def _buildah(command: str, *arguments: str) -> str:
    """A store of our own, and no container engine's."""
    store = cache() / "buildah"
    options = [f"--root={store}/root", f"--runroot={store}/run", "--storage-driver=overlay"]
    return _run("buildah", *options, command, *arguments)


def _run(*command: str) -> str:
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _files() -> Iterator[Path]:
    for part in PARTS:
        place = REPOSITORY / part
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)
