"""A run whose engines KubeRay starts, on a real kubelet: `make e2e-more`, where KUBERAY_OPERATOR is set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gang_run import GangRun, tiny

from testbed import kuberay
from testbed.kuberay import KubeRay
from testbed.real_cluster import RealCluster
from testbed.waiting import until

pytestmark = pytest.mark.skipif(not kuberay.is_here(), reason="NO KUBERAY: set KUBERAY_OPERATOR and KUBERAY_CRDS")

PERSONAS = 400


@pytest.fixture(scope="module")
def installed(cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """KubeRay at work."""
    operator = KubeRay(cluster, tmp_path_factory.mktemp("kuberay"))
    yield
    operator.uninstall()


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("installed")
def test_a_run_of_rayjobs_completes_and_leaves_no_ray_cluster(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    manifest = tiny("rayjobs", PERSONAS)
    manifest["spec"]["compute"]["generation"] |= {"runtime": "RayJob"}
    run = GangRun(cluster, namespace, tmp_path, manifest)
    run.until_records_after(0, 300)
    until(lambda: run.step("i1-generate").get("progress"), "progress, asked of KubeRay's Service for the head", 60)
    run.until_complete(600)
    for step, kind in (("i1-generate", "RayJob"), ("i1-train", "Job"), ("i1-evaluate", "RayJob")):
        told, done = run.step(step), run.manifest(step)
        assert (told["attempts"], told["failures"], told["digest"]) == (1, 0, done.digest), run.evidence()
        assert cluster.kubectl("get", kind, f"-n={namespace}", f"-l=selfalign.dev/step={step}", "-o=name"), step
    run.assert_every_persona_once(PERSONAS)
    until(lambda: not cluster.kubectl("get", "raycluster", f"-n={namespace}", "-o=name"), "end of Ray's clusters", 120)
