"""Helm with a cluster's kubeconfig, and the chart as a release."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from kubernetes import client
from operators import OperatorProcess

from testbed.binaries import binary
from testbed.cluster import Cluster
from testbed.scripts import script

CHART = Path(__file__).parents[2] / "charts" / "selfalign-operator"
# KWOK plays the operator's pods: they run until they are deleted.
PLAYED = f"--set-json=podAnnotations={json.dumps(script(trouble='Hang'))}"
NO_CRD = "--set=crds.install=false"


class Helm:
    """Runs helm with folders of its own. Raises RuntimeError with its complaint when it fails."""

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


class Release:
    """The chart as a release of a namespace; `name` is also what its objects are called."""

    def __init__(self, helm: Helm, cluster: Cluster, namespace: str, chart: Path = CHART) -> None:
        self.namespace, self.name = namespace, f"selfalign-operator-{namespace}"
        self._helm, self._cluster, self._chart = helm, cluster, chart

    def install(self, *options: str) -> str:
        """What helm prints: the notes."""
        return self._do("install", self._chart, PLAYED, *options)

    def upgrade(self, *options: str, chart: Path | None = None) -> str:
        """The values that were set stay."""
        return self._do("upgrade", chart or self._chart, "--reuse-values", *options)

    def uninstall(self) -> str:
        """Returns when what belongs to the release is gone."""
        return self._helm("uninstall", self.name, f"--namespace={self.namespace}", "--wait", "--timeout=60s")

    def _do(self, verb: str, chart: Path, *options: str) -> str:
        return self._helm(verb, self.name, chart, f"--namespace={self.namespace}", "--timeout=60s", *options)

    @property
    def deployment(self) -> client.V1Deployment:
        """The installed Deployment."""
        return client.AppsV1Api(self._cluster.api).read_namespaced_deployment(self.name, self.namespace)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with the installed service account's token."""
        account = self.deployment.spec.template.spec.service_account_name
        return self._cluster.kubeconfig_for_service_account(self.namespace, account)

    def operator(self, folder: Path) -> OperatorProcess:
        """The operator on this machine, with the arguments, configuration and rights of the installed one."""
        pod = self.deployment.spec.template.spec
        arguments = [each for each in pod.containers[0].args if not each.startswith(("--config=", "--listen="))]
        config_map = pod.volumes[0].config_map.name
        config = self._cluster.core.read_namespaced_config_map(config_map, self.namespace).data["operator.yaml"]
        where = f"--lease-namespace={self.namespace}"  # which a pod reads beside its token
        return OperatorProcess(folder, self.kubeconfig, *arguments, where, config=config)
