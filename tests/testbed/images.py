"""The project's images as their Dockerfiles make them, on a base of this machine's distribution: no registry is asked.

They stay in a store of buildah's in the cache, each by the hash of all that goes into it: the base for good, an image until
newer ones come, and their layers, so that changed source is a new last layer, in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.binaries import cache, locked

REPOSITORY = Path(__file__).parents[2]
BASE = "localhost/debian-python:bookworm"
DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm")
AUTHORITIES = "/etc/ssl/certs"  # also those of this network
KEPT = 2  # of each image, and of its archives


@dataclass(frozen=True)
class Image:
    """One of the folders of `images/`, with the lock that its packages come by and its own source."""

    name: str
    lock: str
    source: str
    variant: str = ""  # what sets its name apart from the other variant's in one store

    @property
    def repository(self) -> str:
        """The image's name without a tag, as `make images` calls it but for the variant."""
        return f"localhost/selfalign-{self.name}{self.variant}"

    @property
    def dockerfile(self) -> str:
        """Its path in the repository."""
        return f"images/{self.name}/Dockerfile"

    @property
    def parts(self) -> tuple[str, ...]:
        """All that goes into it, as paths in the repository."""
        return (self.dockerfile, ".dockerignore", self.lock, "crds/selfalign_api", self.source)

    @property
    def tag(self) -> str:
        """The tag of the image that the sources make now."""
        digest = hashlib.sha256(" ".join(DEBOOTSTRAP).encode())
        for file in self._files():
            digest.update(f"{file.relative_to(REPOSITORY)}\0".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()[:16]

    def _files(self) -> Iterator[Path]:
        for part in self.parts:
            place = REPOSITORY / part
            found = sorted(place.rglob("*")) if place.is_dir() else [place]
            yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


OPERATOR = Image("operator", "requirements/operator.txt", "operator/selfalign_operator")
# For clusters without GPUs: no machine that tests has one.
GENERATE = Image("generate", "requirements/generate-cpu.txt", "jobs/selfalign_jobs")
TRAIN = Image("train", "requirements/train-cpu.txt", "jobs/selfalign_jobs")
# And for those with GPUs, some 10 GB each: run as far as this machine can.
GENERATE_GPU = Image("generate", "requirements/generate.txt", "jobs/selfalign_jobs", "-gpu")
TRAIN_GPU = Image("train", "requirements/train.txt", "jobs/selfalign_jobs", "-gpu")


def build(image: Image) -> str:
    """The image's name with its tag, built where the store has it not. Raises RuntimeError."""
    name = f"{image.repository}:{image.tag}"
    with _alone() as folder:
        if name not in _names(image.repository):
            if BASE not in _names(BASE):
                _build_base(folder / "rootfs")
            _build(image, name)
            for other in [each for each in _names(image.repository) if each != name][KEPT - 1 :]:
                _buildah("rmi", other)  # layers that another has too stay
    return name


def archive(image: Image) -> Path:
    """The image as a docker-archive, for a node to load. Raises RuntimeError."""
    name = build(image)
    with _alone() as folder:
        file = folder / f"{image.name}-{image.tag}.tar"
        if not file.exists():
            scratch = file.with_suffix(".part")
            scratch.unlink(missing_ok=True)
            _buildah("push", "--quiet", name, f"docker-archive:{scratch}:{name}")
            scratch.replace(file)  # whole or not at all
            archives = sorted(folder.glob(f"{image.name}-*.tar"), key=lambda each: each.stat().st_mtime)
            for older in archives[:-KEPT]:
                older.unlink()
    return file


@contextmanager
def unpacked(name: str) -> Iterator[Path]:
    """The root of a container of the image. Raises RuntimeError."""
    container = _buildah("from", "--pull-never", name).strip()
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def variables(name: str) -> dict[str, str]:
    """The environment that an image of the store gives its containers. Raises RuntimeError."""
    inspected = json.loads(_buildah("inspect", "--type=image", name))
    return dict(pair.split("=", 1) for pair in inspected["OCIv1"]["config"]["Env"])


@contextmanager
def _alone() -> Iterator[Path]:
    """The only one that builds; what is kept beside the store."""
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        yield folder


def _build_base(rootfs: Path) -> None:
    shutil.rmtree(rootfs, ignore_errors=True)  # of a build that was killed
    _run(*DEBOOTSTRAP, str(rootfs))
    container = _buildah("from", "scratch").strip()
    _buildah("add", "--quiet", container, str(rootfs), "/")
    _buildah("commit", "--quiet", container, BASE)
    _buildah("rm", container)
    shutil.rmtree(rootfs)


def _build(image: Image, name: str) -> None:
    authorities = ["--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro"]
    arguments = [f"BASE={BASE}", f"PIP_CERT={AUTHORITIES}/ca-certificates.crt", f"LOCK={image.lock}"]
    arguments += ["VERSION=test", f"REVISION={image.tag}"]
    given = [f"--build-arg={argument}" for argument in arguments]
    options = ["--quiet", "--layers", *authorities, *given, "--file", image.dockerfile, "--tag", name]
    _buildah("bud", *options, str(REPOSITORY))


def _names(reference: str) -> list[str]:
    """The names in the store that a reference finds, the newest first."""
    return _buildah("images", "--format", "{{.Name}}:{{.Tag}}", "--filter", f"reference={reference}").split()


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
