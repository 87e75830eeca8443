"""This machine as a node: containerd, kubelet, kube-proxy and CoreDNS, in namespaces of their own (enclosure.py)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import yaml
from kubernetes import client

from testbed import cgroups, image_file
from testbed.binaries import binary
from testbed.control_plane import ControlPlane
from testbed.enclosure import BRIDGE, GATEWAY, NODE, PODS, Enclosure
from testbed.machine import cni_folder
from testbed.processes import Process

NAME = "node"
KUBELET_PORT, PROXY_HEALTH_PORT, DNS_READY_PORT = 10250, 10256, 8181
NOTHING = dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%")


class Node:
    """A node that has joined `plane`. Everything that it keeps lies in `folder`."""

    def __init__(self, plane: ControlPlane, enclosure: Enclosure, folder: Path) -> None:
        self._plane, self._enclosure, self._folder = plane, enclosure, folder
        self._socket = folder / "containerd.sock"
        cgroups.make()
        self._start_containerd()
        for write, name in ((image_file.write_sandbox, "sandbox"), (image_file.write_host, "host")):
            write(folder / f"{name}.tar")
            self.load_image(folder / f"{name}.tar")
        self._start_kubelet()
        self._start_proxy()
        self._start_dns()

    def load_image(self, archive: Path) -> None:
        """Gives the node the image of a docker-archive. Raises RuntimeError."""
        self._ctr("images", "import", str(archive))

    def kill(self, pod: client.V1Pod) -> None:
        """SIGKILL to everything in the pod's first container, which nobody asked for. Raises RuntimeError."""
        container = pod.status.container_statuses[0].container_id.removeprefix("containerd://")
        self._ctr("tasks", "kill", "--all", "--signal=SIGKILL", container)

    def _ctr(self, *arguments: str) -> None:
        command = ["ctr", f"--address={self._socket}", "--namespace=k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

    def _start(self, name: str, program: str | Path, *options: str) -> Process:
        log = self._folder / "logs" / f"{name}.log"
        return Process([*self._enclosure.enter, program, *options], log, name=name)

    def _start_containerd(self) -> None:
        (self._folder / "cni").mkdir()
        (self._folder / "cni" / "10-bridge.conflist").write_text(json.dumps(_cni(self._folder)))
        (self._folder / "containerd.toml").write_text(_containerd(self._folder, self._socket))
        program = shutil.which("containerd")
        assert program is not None  # machine.check
        process = self._start("containerd", program, f"--config={self._folder}/containerd.toml")
        process.wait_until(self._socket.exists, "socket")

    def _start_kubelet(self) -> None:
        kubeconfig = self._plane.kubeconfig(f"system:node:{NAME}", ["system:nodes"])
        self._plane.authority.server([NAME], [NODE]).write(self._folder, "kubelet")
        (self._folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(self._folder, self._socket)))
        kubelet = self._start(
            "kubelet",
            binary("kubelet"),
            f"--config={self._folder}/kubelet.yaml",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={self._folder}/kubelet",
            f"--hostname-override={NAME}",
            f"--node-ip={NODE}",
        )
        kubelet.wait_for(f"http://{NODE}:{KUBELET_PORT + 1}/healthz")

    def _start_proxy(self) -> None:
        proxy = self._start(
            "kube-proxy",
            binary("kube-proxy"),
            f"--kubeconfig={self._plane.kubeconfig('system:kube-proxy')}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            "--masquerade-all",  # an answer between two pods on the bridge would not pass iptables otherwise
            f"--healthz-bind-address={NODE}:{PROXY_HEALTH_PORT}",
            "--metrics-bind-address=127.0.0.1:10249",
            # Not ours to set in a network namespace.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )
        proxy.wait_for(f"http://{NODE}:{PROXY_HEALTH_PORT}/livez")

    def _start_dns(self) -> None:
        file = self._folder / "Corefile"
        file.write_text(_corefile(self._plane.kubeconfig("coredns", ["system:masters"])))
        dns = self._start("coredns", binary("coredns"), f"-conf={file}")
        dns.wait_for(f"http://{GATEWAY}:{DNS_READY_PORT}/ready")


def _cni(folder: Path) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [bridge | {"ipam": addresses | {"dataDir": f"{folder}/addresses"}}],
    }


def _containerd(folder: Path, socket: Path) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE every pod dies else ("can't get final child's PID from pipe").
    return f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image_file.SANDBOX}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_folder()}"
  conf_dir = "{folder}/cni"
"""


def _kubelet(folder: Path, socket: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{folder}/keys/authority.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{folder}/kubelet.crt",
        "tlsPrivateKeyFile": f"{folder}/kubelet.key",
        "address": NODE,
        "port": KUBELET_PORT,
        "healthzBindAddress": NODE,
        "healthzPort": KUBELET_PORT + 1,
        "clusterDNS": [GATEWAY],
        "clusterDomain": "cluster.local",
        "podLogsDir": f"{folder}/pod-logs",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.ROOT}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "evictionHard": NOTHING,  # a full disk or memory of this machine is not the tests' business
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
    }


def _corefile(kubeconfig: Path) -> str:
    return f""".:53 {{
  bind {GATEWAY}
  errors
  ready {GATEWAY}:{DNS_READY_PORT}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 0
  }}
}}
"""
