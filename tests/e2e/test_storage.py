"""What outlives a run on a real kubelet: its folder on the claim; and a run that keeps everything in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gang_run import GangRun, tiny

from selfalign_jobs.places.store import Folder, parts_of, step_folder
from testbed.buckets import Buckets, amazon
from testbed.enclosure import HOST
from testbed.real_cluster import RealCluster
from testbed.standing import CLAIM
from testbed.waiting import until

pytestmark = pytest.mark.timeout(1200)
SECONDS = 600
PERSONAS = 2000
KINDS = "jobs,pods,services,configmaps,secrets,networkpolicies"


def left_of(cluster: RealCluster, namespace: str, uid: str) -> str:
    """Names of what the operator has made for a run."""
    return cluster.kubectl("get", KINDS, f"-n={namespace}", f"-l=selfalign.dev/run-uid={uid}", "-o=name")


def test_a_run_that_is_deleted_in_the_middle_leaves_its_records_to_the_next_of_its_name(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    first = GangRun(cluster, namespace, tmp_path, tiny("again", PERSONAS))
    first.until_records_after(0, SECONDS)
    assert left_of(cluster, namespace, first.uid)
    first.delete()
    until(lambda: not left_of(cluster, namespace, first.uid), "end of all that the run was", 120)
    durable = set(parts_of(step_folder(first.folder, 1, "i1-generate"), "pairs"))
    assert durable
    second = GangRun(cluster, namespace, tmp_path, tiny("again", PERSONAS))
    second.until_complete(SECONDS)
    second.assert_every_persona_once(PERSONAS)
    assert durable <= set(second.manifest("i1-generate").tables["pairs"].parts)


def test_another_method_is_refused_the_folder_of_a_run(cluster: RealCluster, namespace: str, tmp_path: Path) -> None:
    first = GangRun(cluster, namespace, tmp_path, tiny("taken", 64))
    first.until("Accepted", "True", seconds=SECONDS)
    first.delete()
    until(lambda: not left_of(cluster, namespace, first.uid), "end of all that the run was", 120)
    second = GangRun(cluster, namespace, tmp_path, tiny("taken", 64, seed=1))
    message = second.until("Accepted", "False", "StorageInUse", SECONDS)["message"]
    assert "seed" in message


@pytest.fixture
def s3(cluster: RealCluster, tmp_path: Path) -> Iterator[Buckets]:
    """An S3 server that pods reach, with two buckets."""
    with amazon(tmp_path / "s3", HOST) as server:
        server.bucket("storage")
        server.bucket("outputs")
        yield server


def test_a_run_keeps_everything_in_a_bucket_and_publishes_to_one(
    cluster: RealCluster, namespace: str, tmp_path: Path, s3: Buckets
) -> None:
    cluster.core.create_namespaced_secret(namespace, {"metadata": {"name": "s3"}, "stringData": s3.environment})
    places = {
        "storage": {"url": "s3://storage/runs"},
        "output": {"url": "s3://outputs/model", "datasetUrl": "s3://outputs/pairs"},
        "credentials": [{"urlPrefix": "s3://", "secretName": "s3"}],
    }
    run = GangRun(cluster, namespace, tmp_path, tiny("in-a-bucket", PERSONAS, **places))
    run.folder = Folder.open((s3.root / "storage" / "runs" / namespace / run.name).as_uri())
    run.until_complete(SECONDS)
    run.assert_every_persona_once(PERSONAS)
    published, trained = s3.root / "outputs" / "model", Path(run.folder.path) / "iter-1/i1-train/model"
    assert (published / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (s3.root / "outputs/pairs/data/iter-1.parquet").is_file()
    assert not (tmp_path / CLAIM / "runs").exists()
    assert run.step("publish")["state"] == "Succeeded"
