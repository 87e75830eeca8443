"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler on free loopback ports."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from testbed.binaries import binary
from testbed.certificates import Authority, signing_key, write_private
from testbed.gate import write_egress_configuration
from testbed.kubeconfig import write_for_certificate
from testbed.processes import Process, free_port

SERVICES = "10.96.0.0/16"
LOOPBACK = "127.0.0.1"
# Tests do not wait for what controllers allow themselves: 20 requests a second, five Jobs at once.
RATE = ("--kube-api-qps=500", "--kube-api-burst=1000")
JOBS_AT_ONCE = "--concurrent-job-syncs=20"


class ControlPlane:
    """A running control plane; everything that it keeps lies in one folder.

    Args:
        folder: an empty folder.
        address: of this machine, where pods and the kubelet of a real node reach the apiserver. None: the apiserver
            listens on loopback, and looks for the way to pods at the gate.
        outlives_us: the programs go on when this process ends (else they die with it).
        default_rates: the controllers ask as often as they do where nobody has tuned them.
    """

    def __init__(
        self, folder: Path, *, address: str | None = None, outlives_us: bool = False, default_rates: bool = False
    ) -> None:
        self.folder = folder
        self.authority = Authority()
        self._address = address
        self.server = f"https://{address or LOOPBACK}:{free_port()}"
        self.gate = f"selfalign-testbed-{uuid.uuid4().hex}"  # where the apiserver looks for the way to pods (gate.py)
        self.processes: list[Process] = []
        self._outlives_us = outlives_us
        self._default_rates = default_rates
        (folder / "logs").mkdir()
        (folder / "keys").mkdir(mode=0o700)
        self.admin = self.kubeconfig("admin", ["system:masters"])
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig file for this user in these groups, by a client certificate."""
        path = self.folder / ("kubeconfig" if user == "admin" else f"keys/{user.replace(':', '_')}.kubeconfig")
        pair = self.authority.client(user, groups)
        return write_for_certificate(path, self.server, self.authority.certificate, pair)

    def start(self, name: str, *options: str) -> Process:
        """Starts one program of the testbed beside the others: it ends with them."""
        log = self.folder / "logs" / f"{name}.log"
        process = Process([binary(name), *options], log, outlives_us=self._outlives_us)
        self.processes.append(process)
        return process

    def restart(self, name: str) -> None:
        """Kills one program and starts it again; returns when it is ready. What it keeps on disk stays."""
        next(process for process in self.processes if process.name == name).restart()

    def stop(self) -> None:
        """Ends all programs, the last started first."""
        for process in reversed(self.processes):
            process.stop()

    def _start(self) -> None:
        etcd = self._start_etcd()
        self._start_apiserver(etcd)
        manager, manager_port = self._start_controller(
            "kube-controller-manager",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.folder}/keys/service-accounts.key",
            f"--root-ca-file={self.folder}/keys/authority.crt",
            *(() if self._default_rates else (JOBS_AT_ONCE,)),
            "--pvclaimbinder-sync-period=1s",  # a claim that is older than its volume waits for this, 15 s by default
        )
        scheduler, scheduler_port = self._start_controller("kube-scheduler")
        manager.wait_for(f"https://127.0.0.1:{manager_port}/healthz")
        scheduler.wait_for(f"https://127.0.0.1:{scheduler_port}/readyz")

    def _start_etcd(self) -> str:
        client, peer, metrics = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        process = self.start(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",  # a power cut may take these data
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--listen-metrics-urls={metrics}",
            "--log-level=warn",
        )
        process.wait_for(f"{metrics}/readyz")
        return client

    def _start_apiserver(self, etcd: str) -> None:
        keys = self.folder / "keys"
        (keys / "authority.crt").write_bytes(self.authority.certificate)
        pair = self.authority.server(["localhost", "kubernetes.default.svc"], [self._address or LOOPBACK, "10.96.0.1"])
        certificate, key = pair.write(keys, "apiserver")
        private, public = signing_key()
        write_private(keys / "service-accounts.key", private)
        (keys / "service-accounts.pub").write_bytes(public)
        process = self.start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={self._address or LOOPBACK}",
            f"--advertise-address={self._address or LOOPBACK}",
            f"--secure-port={self.server.rpartition(':')[2]}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={keys}/authority.crt",
            f"--service-account-key-file={keys}/service-accounts.pub",
            f"--service-account-signing-key-file={keys}/service-accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement,NodeRestriction",
            "--allow-privileged",
            *(self._way_to_gate() if self._address is None else self._way_to_kubelet()),
        )
        process.wait_for(f"{self.server}/readyz")

    def _way_to_gate(self) -> list[str]:
        return [
            "--endpoint-reconciler-type=none",  # the Service `kubernetes` may not point to loopback
            f"--egress-selector-config-file={write_egress_configuration(self.folder / 'egress.json', self.gate)}",
        ]

    def _way_to_kubelet(self) -> list[str]:
        keys = self.folder / "keys"
        certificate, key = self.authority.client("kube-apiserver", ["system:masters"]).write(keys, "kubelet-client")
        return [
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={certificate}",
            f"--kubelet-client-key={key}",
            f"--kubelet-certificate-authority={keys}/authority.crt",
        ]

    def _start_controller(self, name: str, *options: str) -> tuple[Process, int]:
        port = free_port()
        kubeconfig = self.kubeconfig(f"system:{name}")
        process = self.start(
            name,
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--leader-elect=false",
            *(() if self._default_rates else RATE),
            *options,
        )
        return process, port
