"""The programs of the testbed: built once from their Go modules, kept in a cache outside the repository.

`KUBEBUILDER_ASSETS`, where set, names a folder whose programs are taken before our own: envtest keeps etcd,
kube-apiserver and kubectl there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"  # one folder a Go module: go.mod, go.sum, tools.go or main.go


@dataclass(frozen=True)
class Binary:
    module: str  # a folder of `modules/`
    package: str  # in that module, or one that it names


# A line here and a blank import in the module's tools.go (then `go mod tidy` there) make a program part of the testbed.
BINARIES = {
    "etcd": Binary("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": Binary("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "kwok": Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "versitygw": Binary("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
    "fake-gcs-server": Binary("fake-gcs-server", "github.com/fsouza/fake-gcs-server"),
    "helm": Binary("helm", "helm.sh/helm/v3/cmd/helm"),
    "kubelet": Binary("node", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": Binary("node", "k8s.io/kubernetes/cmd/kube-proxy"),
    "coredns": Binary("coredns", "."),
    "coscheduling": Binary("coscheduling", "."),
}
PLAYED = ("kubernetes", "helm", "kwok")  # modules of a cluster whose nodes are played
REAL = ("kubernetes", "helm", "node", "coredns", "versitygw")  # and of one whose node is this machine
GANGS = ("coscheduling",)  # beside one whose nodes are played
BUCKETS = ("versitygw", "fake-gcs-server")  # for step programs without a cluster


class NoBinaries(RuntimeError):
    """A program of the testbed is neither at hand nor can be built here; the message says what to do."""


def binary(name: str) -> Path:
    """The path of one program. Raises NoBinaries when it was never built."""
    path = _find(name)
    if path is None:
        raise NoBinaries(
            f"{name} is not built: run `make testbed`, or set KUBEBUILDER_ASSETS to a folder that holds it"
        )
    return path


def missing(modules: Sequence[str]) -> list[str]:
    """The programs of these modules that `build` would build."""
    return [name for name, wanted in BINARIES.items() if wanted.module in modules and _find(name) is None]


def build(modules: Sequence[str] = PLAYED) -> None:
    """Builds what is missing of these modules (minutes with cold Go caches), saying so on stderr.

    Raises NoBinaries without Go, or when a build fails.
    """
    lacking = missing(modules)
    if not lacking:
        return
    go = shutil.which("go")
    if go is None:
        raise NoBinaries(f"no Go on PATH to build {', '.join(lacking)}: install Go 1.26 or set KUBEBUILDER_ASSETS")
    for place, name in enumerate(lacking, start=1):
        wanted = BINARIES[name]
        folder = cache_folder(wanted.module)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            if _find(name) is None:
                _build_one(go, name, wanted, f"{place}/{len(lacking)}")


def cache_folder(module: str) -> Path:
    """`<cache>/selfalign/testbed/<module>-<hash>`: other files or other flags are another folder."""
    digest = hashlib.sha256()
    place = MODULES / module
    for file in (place / "go.mod", place / "go.sum", *sorted(place.glob("*.go"))):
        digest.update(file.read_bytes())
    digest.update(" ".join(_flags(module)).encode())
    return cache() / f"{module}-{digest.hexdigest()[:16]}"


def cache() -> Path:
    """What the testbed keeps from one day to the next."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "selfalign" / "testbed"


def _find(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folders = [Path(assets)] if assets else []
    candidates = (folder / name for folder in [*folders, cache_folder(BINARIES[name].module)])
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _build_one(go: str, name: str, wanted: Binary, place: str) -> None:
    print(f"testbed: building {name} ({place})", file=sys.stderr, flush=True)
    start = time.monotonic()
    folder = cache_folder(wanted.module)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        output = Path(scratch) / name
        environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
        command = [go, "build", *_flags(wanted.module), "-o", str(output), wanted.package]
        if subprocess.run(command, cwd=MODULES / wanted.module, env=environment).returncode != 0:
            raise NoBinaries(f"`{shlex.join(command)}` in {MODULES / wanted.module} failed; its output is above")
        output.replace(folder / name)  # whole or not at all
    print(f"testbed: built {name} ({place}) in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _flags(module: str) -> list[str]:
    go_mod = (MODULES / module / "go.mod").read_text()
    stamps = " ".join(f"-X {variable}={value}" for variable, value in _stamps(go_mod))
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {stamps}".rstrip()]


def _stamps(go_mod: str) -> Iterator[tuple[str, str]]:
    """The variables by which a program knows its version.

    Kubernetes' programs call themselves v0.0.0-master else, which kubectl and helm refuse; helm takes Kubernetes for 1.20.
    """
    if found := re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\S+)", go_mod):
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            for name, value in zip(("gitVersion", "gitMajor", "gitMinor"), found.groups(), strict=True):
                yield f"{package}.{name}", value
    if found := re.search(r"helm\.sh/helm/v3 (v\S+)[^$]*k8s\.io/client-go v0\.(\d+)", go_mod):
        yield "helm.sh/helm/v3/internal/version.version", found[1]
        for package in ("helm.sh/helm/v3/pkg/lint/rules", "helm.sh/helm/v3/pkg/chartutil"):
            yield f"{package}.k8sVersionMajor", "1"
            yield f"{package}.k8sVersionMinor", found[2]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One builder at a time; the others wait, saying so."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("testbed: another builder is at work; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
