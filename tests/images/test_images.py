"""Each step's image does its step as a pod would: unprivileged, its root read-only, without a network, stopped by a signal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pods import ACCEPT, TinyRun

from selfalign_api.outcome import Exit
from selfalign_jobs.places.store import read_manifest, step_folder
from selfalign_operator.effective import Attempt
from testbed.container import Container
from testbed.standing import EXAMPLE_MODEL
from testbed.waiting import until

SECONDS = 300.0  # for a step; never part of what is asserted
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(6 * SECONDS)]
EACH = pytest.mark.parametrize("step", ["i1-generate", "i1-train"])
LOOK = """
import os
try:
    root = open("/opt/own", "w")
except OSError as error:
    root = error.strerror
print(os.getpid(), os.getuid(), os.listdir("/sys/class/net"), root)
"""


@dataclass(frozen=True)
class Ended:
    """Three containers of one image."""

    refused: Container  # its model was not there
    stopped: Container  # it was at work
    done: Container  # went on after that


def attempt(step: str, number: int) -> Attempt:
    return Attempt(step=step, kind="train" if step == "i1-train" else "generate", iteration=1, number=number)


@contextmanager
def without_the_model(tiny: TinyRun) -> Iterator[None]:
    model = tiny.claim / EXAMPLE_MODEL.name
    away = model.rename(tiny.claim / "away")
    yield
    away.rename(model)


def run_to_its_end(tiny: TinyRun, attempt: Attempt) -> Container:
    container = tiny.start(attempt)
    container.wait(SECONDS)
    return container


def stop_at_work(tiny: TinyRun, attempt: Attempt) -> Container:
    """SIGTERM once the step has its rows and starts its engine or its training."""
    folder, container = step_folder(tiny.results, 1, attempt.step), tiny.start(attempt)
    at_work = lambda: folder.exists("prepared/pairs.parquet")  # noqa: E731
    until(lambda: at_work() or not container.runs, f"work of {attempt.step}", SECONDS)
    if container.runs:
        container.terminate()
    container.wait(SECONDS)
    return container


@pytest.fixture(scope="module")
def ended(tiny: TinyRun) -> dict[str, Ended]:
    """What became of the steps: the pairs that one image makes are what the other trains on."""
    with without_the_model(tiny):
        refused = run_to_its_end(tiny, ACCEPT)
    accepted = run_to_its_end(tiny, ACCEPT)
    assert accepted.wait(0) == Exit.DONE, accepted.log[-4000:]
    stopped, done = stop_at_work(tiny, attempt("i1-generate", 1)), run_to_its_end(tiny, attempt("i1-generate", 2))
    generation = Ended(refused, stopped, done)
    with without_the_model(tiny):
        refused = run_to_its_end(tiny, attempt("i1-train", 1))
    stopped, done = stop_at_work(tiny, attempt("i1-train", 2)), run_to_its_end(tiny, attempt("i1-train", 3))
    return {"i1-generate": generation, "i1-train": Ended(refused, stopped, done)}


@EACH
def test_a_step_starts_as_process_1_of_an_unprivileged_user_on_a_root_that_cannot_be_written(
    tiny: TinyRun, step: str
) -> None:
    container = tiny.start(attempt(step, 1), LOOK)
    assert container.wait(SECONDS) == 0, container.log
    assert container.log.strip() == "1 1000 ['lo'] Read-only file system"


@EACH
def test_a_step_is_done_and_says_so(tiny: TinyRun, ended: dict[str, Ended], step: str) -> None:
    done = ended[step].done
    assert done.wait(0) == Exit.DONE, done.log[-4000:]
    manifest = read_manifest(step_folder(tiny.results, 1, step))
    assert manifest is not None
    assert done.message["step"] == step
    assert done.message["result"] == manifest.summary()["result"]


@EACH
def test_a_signal_stops_a_step_that_goes_on_later(ended: dict[str, Ended], step: str) -> None:
    stopped = ended[step].stopped
    assert stopped.wait(0) == Exit.STOPPED, stopped.log[-4000:]
    assert stopped.message["stopped"]


@EACH
def test_a_wrong_configuration_is_named(ended: dict[str, Ended], step: str) -> None:
    refused = ended[step].refused
    assert refused.wait(0) == Exit.CONFIG, refused.log[-4000:]
    assert EXAMPLE_MODEL.name in refused.message["error"]
