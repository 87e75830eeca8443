"""KWOK: nodes with GPUs that are only objects, and pods on them that do what their annotations say."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client

from testbed.control_plane import ControlPlane
from testbed.processes import free_port

STAGES = Path(__file__).with_name("stages.yaml")
SELECTOR = ("testbed.selfalign.dev/played-by", "kwok")


def start(control_plane: ControlPlane) -> None:
    """Starts KWOK; it ends with the control plane."""
    port = free_port()
    process = control_plane.start(
        "kwok",
        f"--config={STAGES}",
        f"--kubeconfig={control_plane.kubeconfig('kwok', ['system:masters'])}",
        "--manage-all-nodes=false",
        "--node-lease-duration-seconds=40",  # without heartbeats a node is NotReady after 50 s, and so are its pods, for good
        f"--manage-nodes-with-annotation-selector={'='.join(SELECTOR)}",
        "--node-ip=10.0.0.1",
        "--cidr=10.64.0.0/10",
        f"--server-address=127.0.0.1:{port}",
    )
    process.wait_for(f"http://127.0.0.1:{port}/readyz")


def node(name: str, gpus: int) -> client.V1Node:
    """A node that KWOK plays, with so many GPUs and more of the rest than tests ask for."""
    most = {"cpu": "1000", "memory": "8Ti", "ephemeral-storage": "100Ti", "pods": "10000"}
    resources = most | {"nvidia.com/gpu": str(gpus)}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true"}
    return client.V1Node(
        metadata=client.V1ObjectMeta(name=name, labels=labels, annotations=dict([SELECTOR])),
        status=client.V1NodeStatus(capacity=resources, allocatable=resources),
    )
