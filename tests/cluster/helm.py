"""Helm with a cluster's kubeconfig, and with folders of its own for what it keeps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from testbed.binaries import binary

CHART = Path(__file__).parents[2] / "charts" / "selfalign-operator"


class Helm:
    """Runs helm. Raises RuntimeError with its complaint when it fails."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        folders = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = os.environ | folders | {"KUBECONFIG": str(kubeconfig or home / "none")}

    def __call__(self, *arguments: str | Path) -> str:
        """What it prints."""
        command = [str(binary("helm")), *(str(argument) for argument in arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        if done.returncode != 0:
            raise RuntimeError(f"helm {' '.join(command[1:])}: {done.stdout}{done.stderr}")
        return done.stdout
