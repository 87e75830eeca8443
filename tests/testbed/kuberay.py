"""A real KubeRay beside a cluster, where the machine has one: no module proxy has it, so the tests cannot build it.

`KUBERAY_OPERATOR` is its program (ray-operator of https://github.com/ray-project/kuberay, `go build`), `KUBERAY_CRDS` its
folder ray-operator/config/crd/bases.
"""

from __future__ import annotations

import os
from pathlib import Path

from testbed.administrator import Administrator
from testbed.processes import Process, free_port

PROGRAM, CRDS = "KUBERAY_OPERATOR", "KUBERAY_CRDS"


def is_here() -> bool:
    """Whether both variables are set. What they name is not looked at: a wrong path fails the test."""
    return bool(os.environ.get(PROGRAM)) and bool(os.environ.get(CRDS))


class KubeRay:
    """Its CRDs, and its operator as a process of this machine.

    Args:
        cluster: where it is installed.
        folder: for its log.
        dashboards: an HTTP proxy by which it reaches Ray's dashboards; without one it asks through the apiserver.
    """

    def __init__(self, cluster: Administrator, folder: Path, dashboards: str | None = None) -> None:
        self._cluster, self._crds = cluster, sorted(Path(os.environ[CRDS]).glob("*.yaml"))
        for file in self._crds:
            cluster.add_crd(file)
        health = free_port()
        way = ["env", f"HTTP_PROXY={dashboards}"] if dashboards is not None else []
        self._process = Process(
            [
                *way,
                os.environ[PROGRAM],
                f"--kubeconfig={cluster.kubeconfig}",
                *(() if dashboards is not None else ("--use-kubernetes-proxy",)),
                "--enable-leader-election=false",
                f"--metrics-addr=127.0.0.1:{free_port()}",
                f"--health-probe-bind-address=127.0.0.1:{health}",
            ],
            folder / "kuberay.log",
            name="kuberay",
        )
        self._process.wait_for(f"http://127.0.0.1:{health}/readyz")

    def uninstall(self) -> None:
        """Deletes the CRDs, and what there is of them; then the operator ends, which takes its finalizers away."""
        try:
            for file in self._crds:
                self._cluster.kubectl("delete", "--timeout=60s", "-f", str(file))
        finally:
            self._process.stop()
