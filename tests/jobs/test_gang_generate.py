"""A generation gang: pods that join a head, are lost and replaced, and outlive the head; real Ray, a fake engine."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from gangs import GangOf, Pod
from logged_engine import HOLD, read_logs
from tiny_run import STEP, step_config, tiny_plan

from selfalign_api.run_file import StepConfig
from selfalign_jobs.places.store import Folder, read_manifest, read_parts, step_folder

pytestmark = pytest.mark.heavy
PERSONAS, HELD_OUT = 60, 20
HELPER_GONE_SECONDS = 10.0  # a third of the grace that its pod has; it takes one


class Generation:
    """A gang of two that generates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.log.mkdir()
        self.gang = GangOf(folder, size=2)
        self.pods: list[Pod] = []

    def start(self, index: int) -> Pod:
        self.pods.append(self.gang.pod(index, self.config, str(self.log)))
        return self.pods[-1]

    @property
    def config(self) -> StepConfig:
        return step_config(tiny_plan(PERSONAS, HELD_OUT), self.folder / "run", attempt=1, replicas=2)

    def hold(self, *, on: bool) -> None:
        """Whether engines finish nothing."""
        (self.log / HOLD).touch() if on else (self.log / HOLD).unlink()

    def engines(self) -> set[int]:
        """Processes of the engines that got a request."""
        return {line.pid for line in read_logs(self.log)}

    def check_done(self) -> None:
        """Every record is there, once."""
        place = step_folder(Folder.open((self.folder / "run").as_uri()), 1, STEP)
        manifest = read_manifest(place)
        assert manifest is not None
        for table, rows in (("pairs", PERSONAS), ("initial-answers", HELD_OUT)):
            counts = Counter(read_parts(place, manifest.tables[table])["_record"].to_pylist())
            assert len(counts) == rows
            assert manifest.result["records"][table] == rows


@pytest.fixture(name="generation")
def _generation(tmp_path: Path) -> Iterator[Generation]:
    generation = Generation(tmp_path)
    yield generation
    for pod in generation.pods:
        pod.remove()


def test_a_helper_serves_one_head_after_another_until_it_is_told_to_stop(generation: Generation) -> None:
    generation.hold(on=True)
    helper = generation.start(1)  # before there is a head
    helper.wait_until(lambda: helper.progress().get("phase") == "helping")
    head = generation.start(0)
    head.wait_until(lambda: len(generation.engines()) == 2)
    head.kill("everything")
    head.end()
    again = generation.start(0)
    again.wait_until(lambda: len(generation.engines()) == 4)  # the helper has a new engine too
    generation.hold(on=False)
    assert again.end() == 0, again.output
    generation.check_done()
    assert again.message["result"]["records"] == {"pairs": PERSONAS, "initial-answers": HELD_OUT}
    assert helper.process.poll() is None, "it ended with its head"
    helper.look()
    asked = time.monotonic()
    helper.process.send_signal(signal.SIGTERM)
    assert helper.process.wait() == 75  # an index that ends well is never replaced
    assert time.monotonic() - asked < HELPER_GONE_SECONDS
    assert "stopped" in helper.message


def test_a_helper_that_is_killed_is_replaced_and_costs_no_record(generation: Generation) -> None:
    generation.hold(on=True)
    head, helper = generation.start(0), generation.start(1)
    head.wait_until(lambda: len(generation.engines()) == 2)
    helper.kill("everything")
    generation.start(1)
    head.wait_until(lambda: len(generation.engines()) == 3)
    generation.hold(on=False)
    assert head.end() == 0, head.output
    generation.check_done()


def test_a_head_stops_on_request_and_says_so(generation: Generation) -> None:
    generation.hold(on=True)
    head = generation.start(0)
    head.wait_until(lambda: head.progress().get("phase") == "generate" and bool(generation.engines()))
    head.process.send_signal(signal.SIGTERM)
    assert head.end() == 75, head.output
    assert "records are durable" in head.message["stopped"]
