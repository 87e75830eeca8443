"""A real cluster with the operator installed by its chart, and a namespace for each test."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from host import host_folders
from installation import install

from testbed import images, machine
from testbed.before_tests import before_tests
from testbed.binaries import REAL, build
from testbed.images import OPERATOR
from testbed.node import NAME
from testbed.real_cluster import RealCluster
from testbed.standing import CLAIM, EXAMPLE_MODEL

HERE = Path(__file__).parent
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds programs and image before the first test starts."""

    def prepare() -> None:
        machine.check()
        build(REAL)
        with suppress(RuntimeError):  # the fixture fails, saying so
            images.archive(OPERATOR)

    before_tests(config, items, HERE, prepare, "NO NODE, SO NO END-TO-END TESTS")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """This machine as a cluster, with the operator installed in a namespace of its own."""
    # A short path: the sockets below it may be 107 bytes long.
    folder = tmp_path_factory.mktemp("node")
    cluster = RealCluster(folder)
    try:
        cluster.node.load_image(images.archive(OPERATOR))
        install(cluster, folder / "helm", RESTRICTED)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def namespace(cluster: RealCluster, tmp_path: Path) -> Iterator[str]:
    """A namespace that enforces the restricted standard, with this machine's programs, and the tiny model on a claim.

    The claim's folder is `tmp_path / CLAIM`.
    """
    name = f"t-{uuid.uuid4().hex[:10]}"
    cluster.core.create_namespace({"metadata": {"name": name, "labels": RESTRICTED}})
    for claim, folder in host_folders().items():
        cluster.add_claim(name, claim, folder)
    folder = tmp_path / CLAIM
    shutil.copytree(EXAMPLE_MODEL, folder / EXAMPLE_MODEL.name)
    cluster.add_claim(name, CLAIM, folder, local_to=NAME)
    yield name
    cluster.core.delete_namespace(name)
