"""The images of the steps, unpacked, and a run on the tiny model whose pods are started on them one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pods import Roots, TinyRun

from testbed import images, machine
from testbed.before_tests import before_tests
from testbed.images import GENERATE, TRAIN

HERE = Path(__file__).parent
PERSONAS = 400


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds the images before the first test starts."""

    def prepare() -> None:
        machine.check()
        for image in (GENERATE, TRAIN):
            images.build(image)

    before_tests(config, items, HERE, prepare, "NO CONTAINERS, SO NO TESTS OF IMAGES")


@pytest.fixture(scope="session")
def roots() -> Iterator[Roots]:
    """An image's name -> where it is unpacked, and its variables."""
    with ExitStack() as unpacked:
        names = {image.repository: images.build(image) for image in (GENERATE, TRAIN)}
        yield {
            repository: (unpacked.enter_context(images.unpacked(name)), images.variables(name))
            for repository, name in names.items()
        }


@pytest.fixture(scope="session")
def tiny(roots: Roots, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRun]:
    """The run of all tests."""
    run = TinyRun(roots, tmp_path_factory.mktemp("tiny"), PERSONAS)
    yield run
    run.stop()
