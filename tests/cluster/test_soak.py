"""The soak itself, for seconds: `make soak` runs it for minutes or hours."""

from __future__ import annotations

from pathlib import Path

from soak import Soak

from testbed.cluster import Cluster


def test_a_short_soak_leaves_every_run_where_it_should_be(cluster: Cluster, tmp_path: Path) -> None:
    soak = Soak(cluster, tmp_path, seed=1)
    soak.go(seconds=15)
    assert soak.wrong == []
    assert soak.made > 5
