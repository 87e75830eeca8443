"""`helm install` of the operator, as a platform team would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml
from host import pod_template

from testbed.administrator import Administrator
from testbed.binaries import binary
from testbed.image_file import HOST
from testbed.images import OPERATOR
from testbed.standing import REPOSITORY

RELEASE, NAMESPACE = "selfalign", "selfalign-system"
CHART = REPOSITORY / "charts" / "selfalign-operator"


def values() -> dict[str, object]:
    """The operator's image as it was built, and a profile whose pods run this machine's programs."""
    return {
        "image": {"repository": OPERATOR.repository, "tag": OPERATOR.tag},
        "images": {"generate": HOST, "train": HOST},
        "profiles": {"default": {"compute": {"device": "CPU", "podTemplate": pod_template()}}},
    }


def install(cluster: Administrator, folder: Path, labels: dict[str, str]) -> None:
    """Installs it in a namespace with these labels; returns when it is ready. Raises RuntimeError."""
    folder.mkdir()
    (folder / "values.yaml").write_text(yaml.safe_dump(values()))
    cluster.core.create_namespace({"metadata": {"name": NAMESPACE, "labels": labels}})
    command = [
        str(binary("helm")),
        f"--kubeconfig={cluster.kubeconfig}",
        f"--namespace={NAMESPACE}",
        "install",
        RELEASE,
    ]
    options = [str(CHART), f"--values={folder}/values.yaml", "--wait", "--timeout=120s"]
    own = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run([*command, *options], env=os.environ | own, capture_output=True, text=True)
    if done.returncode != 0:
        where = (f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=selfalign-operator")
        pods = cluster.kubectl("get", "pods", *where) + cluster.kubectl("logs", *where, "--prefix", "--ignore-errors")
        raise RuntimeError(f"helm install: {done.stderr.strip()}\n{pods}")
