"""A cluster as its administrator has it: clients, kubectl, kubeconfig files for others, claims."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.config.kube_config import new_client_from_config

from testbed.binaries import binary
from testbed.control_plane import ControlPlane
from testbed.kubeconfig import write_for_token
from testbed.waiting import until


class Administrator:
    """Clients of a control plane that may do anything."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.api = api_client(control_plane.admin)
        self.core = client.CoreV1Api(self.api)
        self.batch = client.BatchV1Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig file."""
        return self.control_plane.admin

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig file for any user in any groups, to try RBAC with."""
        return self.control_plane.kubeconfig(user, groups)

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig file with a fresh token of this service account."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}").strip()
        plane = self.control_plane
        path = plane.folder / "keys" / f"{namespace}.{name}.kubeconfig"
        return write_for_token(path, plane.server, plane.authority.certificate, token)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What `kubectl ARGUMENTS` prints. Raises RuntimeError with its complaint when it fails."""
        command = [str(binary("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def add_crd(self, file: Path) -> None:
        """Adds a CustomResourceDefinition; returns when its objects are served."""
        self.kubectl("apply", "--server-side", "-f", str(file))

        def established() -> bool:
            # Neither `kubectl wait` nor a JSONPath takes a CRD that has no conditions yet.
            conditions = json.loads(self.kubectl("get", "-f", str(file), "-o=json"))["status"]["conditions"] or []
            return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)

        until(established, "Established CRD")

    def add_claim(self, namespace: str, name: str, folder: Path, local_to: str | None = None) -> None:
        """Adds a claim whose volume is a folder of this machine; returns when it is bound.

        `local_to` names a real node: the volume is a local one of it then, whose files the pods' fsGroup may write.
        """
        source = (
            {"hostPath": {"path": str(folder), "type": "Directory"}} if local_to is None else _local(folder, local_to)
        )
        volume = {
            "metadata": {"name": f"{namespace}-{name}"},
            "spec": {
                "storageClassName": "",
                "accessModes": ["ReadWriteMany"],
                "capacity": {"storage": "1Ti"},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": name},
            }
            | source,
        }
        wanted = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Ti"}}}
        claim = {
            "metadata": {"name": name},
            "spec": wanted | {"storageClassName": "", "volumeName": f"{namespace}-{name}"},
        }
        self.core.create_persistent_volume(volume)
        self.core.create_namespaced_persistent_volume_claim(namespace, claim)
        read = self.core.read_namespaced_persistent_volume_claim
        until(lambda: read(name, namespace).status.phase == "Bound", f"bound claim {name}")

    def nodes_are_ready(self) -> bool:
        """Whether every node says so."""
        states = self.kubectl(
            "get", "nodes", '-o=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
        ).split()
        return states == ["True"] * len(self.core.list_node().items)


def api_client(kubeconfig: Path) -> client.ApiClient:
    """A client of the cluster and user that a kubeconfig file names."""
    made: client.ApiClient = new_client_from_config(str(kubeconfig))
    return made


def _local(folder: Path, node: str) -> dict[str, Any]:
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}}
    return {"local": {"path": str(folder)}, "nodeAffinity": affinity}
