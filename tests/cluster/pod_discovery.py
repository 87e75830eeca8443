"""Pods as Prometheus discovers them (kubernetes_sd_configs, role pod), for Debian's Prometheus, which is built without it.

The meta labels are those of discovery/kubernetes/pod.go: a target for each port of each container.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client

from testbed.administrator import api_client
from testbed.cluster import Cluster

LOOK_SECONDS = 0.5
Json = dict[str, Any]


@contextmanager
def discovering(cluster: Cluster, namespace: str, file: Path) -> Iterator[None]:
    """Keeps `file` (of file_sd_configs) as the pods of the namespace are, inside the block."""
    core = client.CoreV1Api(api_client(cluster.kubeconfig))
    over = threading.Event()

    def work() -> None:
        while not over.wait(LOOK_SECONDS):
            pods = json.loads(core.list_namespaced_pod(namespace, _preload_content=False).data)["items"]
            content = json.dumps([group for pod in pods for group in targets_of(pod)])
            if not file.exists() or file.read_text() != content:
                file.with_suffix(".new").write_text(content)
                file.with_suffix(".new").replace(file)

    thread = threading.Thread(target=work, name="discovery")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def targets_of(pod: Json) -> Iterator[Json]:
    """The target groups of a pod; none while it has no address."""
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    if address is None:
        return
    of_pod = {
        "namespace": metadata["namespace"],
        "pod_name": metadata["name"],
        "pod_ip": address,
        "pod_phase": pod["status"]["phase"],
        "pod_node_name": pod["spec"].get("nodeName", ""),
        **_named("label", metadata.get("labels", {})),
        **_named("annotation", metadata.get("annotations", {})),
    }
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", ()):
            of_port = {"pod_container_name": container["name"], "pod_container_port_name": port.get("name", "")}
            labels = {f"__meta_kubernetes_{name}": value for name, value in (of_pod | of_port).items()}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": labels}


def _named(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    names = {re.sub(r"[^a-zA-Z0-9_]", "_", name): value for name, value in values.items()}
    here = {f"pod_{kind}_{name}": value for name, value in names.items()}
    return here | {f"pod_{kind}present_{name}": "true" for name in names}
