"""The CustomResourceDefinitions of prometheus-operator, as they lie in its Go module."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from testbed.binaries import NoBinaries

MODULE = "github.com/prometheus-operator/prometheus-operator@v0.91.0"
SUM = "h1:rb4MKt5MlpYyDOzgGv1P8zhiHDxJrgQ6p6zhsIc+7ys="
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def prometheus_crds() -> list[Path]:
    """The files of the kinds that the chart makes. Raises NoBinaries where Go cannot fetch them."""
    go = shutil.which("go")
    if go is None:
        raise NoBinaries(f"no Go on PATH to fetch {MODULE}: install Go 1.26")
    done = subprocess.run([go, "mod", "download", "-json", MODULE], capture_output=True, text=True, cwd="/")
    if done.returncode != 0:
        raise NoBinaries(f"`go mod download {MODULE}` failed: {done.stdout}{done.stderr}")
    module = json.loads(done.stdout)
    if module["Sum"] != SUM:
        raise NoBinaries(f"{MODULE} has the sum {module['Sum']}, not {SUM}")
    folder = Path(module["Dir"]) / "example" / "prometheus-operator-crd"
    return [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in KINDS]
