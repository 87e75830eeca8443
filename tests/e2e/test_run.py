"""`helm install`, `kubectl apply`, a better model: a whole run on a real kubelet, as gangs of pods."""

from __future__ import annotations

from pathlib import Path

import pytest
from gang_run import STEPS, GangRun, tiny

from testbed.real_cluster import RealCluster

PERSONAS = 2000  # enough for a gain that no interval of 600 questions hides
SECONDS = 600


@pytest.mark.timeout(900)
def test_a_run_of_gangs_ends_with_a_better_model_and_a_status_that_says_so(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    run = GangRun(cluster, namespace, tmp_path, tiny("sao-tiny", PERSONAS))
    run.until_complete(SECONDS)
    for step in STEPS:
        run.assert_told_as_published(step)
    run.assert_every_persona_once(PERSONAS)
    assert run.folder.read("report.html").startswith(b"<!doctype html>")
    gain = run.manifest("i1-evaluate").result["checks"]["accuracy.sampled.gain"]
    assert gain["low"] > 0.05
