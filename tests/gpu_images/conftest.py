"""The images for clusters with GPUs, unpacked, in a network with the hub and the bucket that the examples name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import played
import pytest
from gpu_pods import CONFIG, Examples
from pods import Pods

from testbed import binaries, images, machine
from testbed.before_tests import before_tests
from testbed.images import GENERATE_GPU, TRAIN_GPU
from testbed.loopback import loopback

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds the images before the first test starts."""

    def prepare() -> None:
        machine.check()
        binaries.build(("versitygw",))
        for image in (GENERATE_GPU, TRAIN_GPU):
            images.build(image)

    before_tests(config, items, HERE, prepare, "NO CONTAINERS, SO NO TESTS OF IMAGES")


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    """The example runs, ready to have their pods started."""
    folder = tmp_path_factory.mktemp("gpu")
    with ExitStack() as stack:
        names = {image.repository: images.build(image) for image in (GENERATE_GPU, TRAIN_GPU)}
        roots = {
            repository: (stack.enter_context(images.unpacked(name)), images.variables(name))
            for repository, name in names.items()
        }
        network = stack.enter_context(loopback())
        pods = Pods(roots, folder, CONFIG, network.path)
        stack.callback(pods.stop)
        for folder_of_ours in ("driver", "programs", "configs"):
            shutil.copytree(HERE / folder_of_ours, pods.claim / folder_of_ours)
        (pods.claim / "driver").chmod(0o777)
        played.model(played.LLAMA, pods.claim / "smollm2")  # of its kind
        yield Examples(pods, stack.enter_context(played.places(folder / "places", network)))
