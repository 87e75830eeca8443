"""What the apiserver would say to manifests."""

from __future__ import annotations

import subprocess

from testbed.binaries import binary
from testbed.cluster import Cluster


def dry_run(cluster: Cluster, manifests: str) -> list[str]:
    """`kubectl apply --dry-run=server`, every field known; the warnings. Raises RuntimeError when one is refused."""
    command = [str(binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "apply", "--dry-run=server"]
    done = subprocess.run([*command, "--validate=strict", "-f", "-"], input=manifests, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [line for line in done.stderr.splitlines() if "Warning" in line]
