"""A real Kueue beside a cluster, where the machine has one and we are root: tests build nothing of other projects.

`KUEUE_MANAGER` is its program (cmd/kueue of https://github.com/kubernetes-sigs/kueue, `go build`), `KUEUE_CONFIG` its
folder config/components.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from testbed.administrator import Administrator
from testbed.control_plane import LOOPBACK
from testbed.gate import gate
from testbed.processes import Process, free_port

PROGRAM, CONFIG = "KUEUE_MANAGER", "KUEUE_CONFIG"
ITS_OWN_AND_JOBS = {"kueue.x-k8s.io", "batch"}  # API groups whose webhooks are installed
NAMESPACE = "kueue-system"
CERTIFICATES = Path("/etc/kueue/metrics/certs")  # where it looks for some that it has not made itself, and nowhere else
WITH_ITS_ETC = """
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" /etc && shift && exec "$@"
"""


def is_here() -> bool:
    """Whether both variables are set. What they name is not looked at: a wrong path fails the test."""
    return bool(os.environ.get(PROGRAM)) and bool(os.environ.get(CONFIG))


class Kueue:
    """Its CRDs and webhooks, and its manager as a process of this machine; it queues Jobs that name a queue."""

    def __init__(self, cluster: Administrator, folder: Path) -> None:
        self._cluster, self._config = cluster, Path(os.environ[CONFIG])
        self._crds = sorted((self._config / "crd" / "bases").glob("*.yaml"))
        for file in self._crds:
            cluster.add_crd(file)
        cluster.kubectl("create", "namespace", NAMESPACE)
        plane = cluster.control_plane
        self._stack = ExitStack()
        self._stack.enter_context(gate(plane.gate, lambda target: target))  # the apiserver's way to the webhooks
        certificates = folder / "etc" / CERTIFICATES.relative_to("/etc")
        certificates.mkdir(parents=True)
        (folder / "work").mkdir()
        plane.authority.server(["localhost"], [LOOPBACK]).write(certificates, "tls")
        webhooks, health = free_port(), free_port()
        process = Process(
            [
                *("unshare", "--mount", "sh", "-c", WITH_ITS_ETC, "-", str(folder)),
                os.environ[PROGRAM],
                f"--config={_configuration(folder, webhooks, health)}",
                f"--kubeconfig={cluster.kubeconfig}",
            ],
            folder / "kueue.log",
            name="kueue",
        )
        self._stack.callback(process.stop)
        process.wait_for(f"http://{LOOPBACK}:{health}/readyz")
        self._webhooks = folder / "webhooks.json"
        self._webhooks.write_text(json.dumps(self._at(f"https://{LOOPBACK}:{webhooks}", plane.authority.certificate)))
        cluster.kubectl("apply", "-f", str(self._webhooks))

    def uninstall(self) -> None:
        """Deletes its webhooks, its CRDs and what there is of them; then the manager ends, which takes its finalizers away."""
        try:
            self._cluster.kubectl("delete", "-f", str(self._webhooks))
            for file in self._crds:
                self._cluster.kubectl("delete", "--timeout=60s", "-f", str(file))
            self._cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        finally:
            self._stack.close()

    def _at(self, url: str, authority: bytes) -> dict[str, Any]:
        """The webhooks, reached by that URL in place of a Service."""
        configurations = list(yaml.safe_load_all((self._config / "webhook" / "manifests.yaml").read_text()))
        for each in configurations:
            each["webhooks"] = [hook for hook in each["webhooks"] if _groups(hook) <= ITS_OWN_AND_JOBS]
            for hook in each["webhooks"]:
                path = hook["clientConfig"]["service"]["path"]
                hook["clientConfig"] = {"url": url + path, "caBundle": b64encode(authority).decode()}
        return {"apiVersion": "v1", "kind": "List", "items": configurations}


def _groups(hook: dict[str, Any]) -> set[str]:
    return {group for rule in hook["rules"] for group in rule["apiGroups"]}


def _configuration(folder: Path, webhooks: int, health: int) -> Path:
    path = folder / "kueue.json"
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"{LOOPBACK}:{health}"},
        "metrics": {"bindAddress": f"{LOOPBACK}:{free_port()}"},
        "webhook": {"host": LOOPBACK, "port": webhooks, "certDir": str(CERTIFICATES)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "clientConnection": {"qps": 300, "burst": 500},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},
    }
    path.write_text(json.dumps(configuration))
    return path
