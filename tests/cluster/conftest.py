"""A cluster for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client
from operators import OWN_ERROR, OperatorProcess

from testbed.before_tests import before_tests
from testbed.binaries import build
from testbed.cluster import Cluster

HERE = Path(__file__).parent
CRD = HERE.parents[1] / "crds" / "selfalignmentruns.yaml"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds the programs before the first test starts."""
    before_tests(config, items, HERE, build, "NO CLUSTER, SO NO CLUSTER TESTS")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real control plane with two nodes of 8 GPUs that KWOK plays, and our CRD."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.add_crd(CRD)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def make_namespace(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Makes namespaces of the test's own; what is left in them is deleted, and nobody waits for that."""
    made = []

    def make() -> str:
        name = f"t-{uuid.uuid4().hex[:10]}"
        cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
        made.append(name)
        return name

    yield make
    for name in made:
        with contextlib.suppress(client.ApiException):  # the test has deleted it
            cluster.core.delete_namespace(name)
            cluster.lose_pods(name)  # a stuck pod would keep its GPUs


@pytest.fixture
def namespace(make_namespace: Callable[[], str]) -> str:
    """A namespace of the test's own."""
    return make_namespace()


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for the tests of a file."""
    operator = OperatorProcess(tmp_path_factory.mktemp("operator"), cluster.kubeconfig, "--no-leader-election")
    try:
        operator.wait_ready()
        yield operator
    finally:
        assert operator.stop() == 0, operator.log.read_text()[-4000:]


@pytest.fixture
def unharmed(operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The operator of this file, which lives on without one error of its own while the test runs."""
    before = operator.log.stat().st_size
    yield operator
    assert operator.process.poll() is None
    said = operator.log.read_bytes()[before:].decode()
    assert not OWN_ERROR.search(said), said[OWN_ERROR.search(said).start() :][:4000]  # type: ignore[union-attr]
