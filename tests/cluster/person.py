"""A person with a laptop: a user of the cluster with some rights, and the plugin as they type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.administrator import Administrator
from testbed.waiting import until

# What the chart adds to the cluster's own role `edit` (templates/userroles.yaml).
EDITOR = {
    "metadata": {
        "name": "selfalign-editor-of-tests",
        "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"},
    },
    "rules": [
        {
            "apiGroups": ["selfalign.dev"],
            "resources": ["selfalignmentruns"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
        }
    ],
}


@dataclass(frozen=True)
class Person:
    """Somebody who types `kubectl selfalign …`."""

    kubeconfig: Path
    namespace: str

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The command, under way."""
        command = [sys.executable, "-m", "selfalign_kubectl.command", *arguments]
        where = (f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen([*command, *where], env=os.environ | {"COLUMNS": "200"}, **pipes)

    def types(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        """What the command ends with: exit code, output, complaint."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        output, complaint = process.communicate(stdin, timeout=120)
        return process.returncode, output, complaint

    def sees(self, *arguments: str) -> str:
        """The output of a command that goes well."""
        code, output, complaint = self.types(*arguments)
        assert code == 0, (code, output, complaint)
        return output


def editor(cluster: Administrator, namespace: str, user: str = "jane") -> Person:
    """A person with `edit` in one namespace, and nothing else in the cluster."""
    cluster.kubectl("apply", "-f=-", stdin=_yaml("ClusterRole", EDITOR))
    person = allowed(cluster, namespace, user, "--clusterrole=edit")
    may = ("auth", "can-i", "patch", "sar", f"-n={namespace}", f"--as={user}")
    until(lambda: _answers_yes(cluster, may), f"rights of {user}")  # a controller adds the rules to `edit`
    return person


def allowed(cluster: Administrator, namespace: str, user: str, role: str) -> Person:
    """A person with that role in a namespace."""
    cluster.kubectl("create", "rolebinding", f"{user}-{len(role)}", f"-n={namespace}", role, f"--user={user}")
    return Person(cluster.kubeconfig_for(user), namespace)


def role(cluster: Administrator, namespace: str, name: str, rules: Sequence[dict[str, Any]]) -> str:
    """A Role of these rules, as an option of `kubectl create rolebinding`."""
    manifest = {"metadata": {"name": name, "namespace": namespace}, "rules": list(rules)}
    cluster.kubectl("apply", "-f=-", stdin=_yaml("Role", manifest))
    return f"--role={name}"


def _yaml(kind: str, manifest: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind} | manifest)


def _answers_yes(cluster: Administrator, question: Sequence[str]) -> bool:
    try:
        return cluster.kubectl(*question).strip() == "yes"
    except RuntimeError:
        return False
