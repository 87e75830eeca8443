"""A cluster for all tests of this folder, and a namespace for each."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client
from operators import OperatorProcess

from testbed.binaries import NoBinaries, build
from testbed.cluster import Cluster

HERE = Path(__file__).parent
CRD = HERE.parents[1] / "crds" / "selfalignmentruns.yaml"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds the programs before the first test starts: a test's timeout does not count it."""
    ours = [item for item in items if HERE in item.path.parents]
    if not ours or config.option.collectonly:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            build()
        except NoBinaries as problem:
            if os.environ.get("CI") == "true":
                return  # the fixture fails, saying so
            for item in ours:
                item.add_marker(pytest.mark.skip(reason=f"NO CLUSTER, SO NO CLUSTER TESTS: {problem}"))


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
