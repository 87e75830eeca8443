"""The soak itself, for seconds: `make soak` runs it for minutes or hours."""

from __future__ import annotations

from pathlib import Path

from soak import Soak
from soak_record import picture, read

from testbed.cluster import Cluster


def test_a_short_soak_leaves_every_run_where_it_should_be(cluster: Cluster, tmp_path: Path) -> None:
    soak = Soak(cluster, tmp_path, seed=1)
    soak.go(seconds=15)
    assert soak.wrong == []
    assert soak.made > 5
    recorded = read(tmp_path / "soak.csv")
    assert len(recorded) == 2 and recorded[-1].memory > 10 and recorded[-1].objects > 10 and recorded[-1].calls > 0
    assert picture(recorded).count("<path") >= 5
