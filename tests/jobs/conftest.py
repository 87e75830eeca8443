"""What some of these tests need is built before the first of them starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import mlflow
from testbed.before_tests import before_tests
from testbed.binaries import BUCKETS, build

HERE = Path(__file__).parent
WITH_BUCKETS = ("test_buckets.py", "test_stores.py")
WITH_MLFLOW = "test_tracking.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds the servers of buckets for those that have some."""
    for name in WITH_BUCKETS:
        before_tests(config, items, HERE / name, lambda: build(BUCKETS), "NO SERVERS OF BUCKETS, SO NO TESTS OF THEM")
    before_tests(config, items, HERE / WITH_MLFLOW, mlflow.install, "NO MLFLOW, SO NO TESTS OF IT")
