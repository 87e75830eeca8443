"""A recipe's tiny example, small, killed once in every step of its plan: the same command again loses and doubles nothing.

`make recipe-kills` takes the examples of all recipes; `make jobs` the one whose steps are of most kinds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_end_to_end import selfalign, wait_for_orphans
from tiny_run import EXAMPLES

from selfalign_api.plan import Evaluate, Generate, Plan
from selfalign_jobs.places.store import Folder, Manifest, read_manifest, read_parts, step_folder
from selfalign_jobs.recipes.base import Step

ALL = "SELFALIGN_KILL_ALL" in os.environ
RUNS = sorted(EXAMPLES.glob("*-tiny.yaml" if ALL else "synpo-tiny.yaml"))
ROWS, HELD_OUT = 320, 40

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.mark.parametrize("example", RUNS, ids=lambda path: path.stem)
def test_a_run_that_is_killed_in_each_of_its_steps_ends_as_it_should(tmp_path: Path, example: Path) -> None:
    command = small(example, tmp_path)
    run = Run(command, tmp_path / "out" / "default" / example.stem)
    run.start()
    run.wait_for(lambda: (run.path / "plan.json").is_file())
    for step in run.plan.steps:
        run.wait_for(lambda step=step: run.under_way(step))
        run.kill()
        run.start()
    assert run.end() == 0, run.printed()
    for step in run.plan.steps:
        manifest = run.manifest(step)
        assert manifest.attempt == 2, f"{step.name} was not killed"
        assert manifest.digest == run.plan.step_digest(step.name)
        for name, table in manifest.tables.items():
            if isinstance(step, Generate | Evaluate):
                sources = read_parts(run.folder(step), table, ["_source"])["_source"].to_pylist()
                asked = run.folder(step).read_table(f"prepared/{name}.parquet", [])
                once = [source for source, _ in groupby(sources)]  # a record's rows follow one another
                assert sorted(once) == list(range(asked.num_rows)), f"{step.name}: {name}"


def small(example: Path, folder: Path) -> list[str]:
    """The command that runs it, with fewer rows."""
    document: dict[str, Any] = yaml.safe_load(example.read_text())
    spec = document["spec"]
    for source in spec["data"].values():
        source["count"] = min(source.get("count", ROWS), ROWS)
    if "reversegen" in spec:
        spec["reversegen"]["proposalsPerIteration"] = ROWS
    if "prompts" in spec["evaluation"]:
        spec["evaluation"]["prompts"]["count"] = HELD_OUT
    (folder / example.name).write_text(yaml.safe_dump(document))
    return selfalign("run", folder / example.name, "--mount", f"selfalign={EXAMPLES}", "--out", folder / "out")


class Run:
    """`selfalign run` under way, and what its folder says."""

    def __init__(self, command: list[str], path: Path) -> None:
        self.command, self.path, self.log = command, path, path.parents[1].with_suffix(".log")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=os.environ | {"COLUMNS": "160"}, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_for(self, state: Any) -> None:
        """Until it is so. Raises AssertionError when the program ends before."""
        while not state():
            assert self.process.poll() is None, self.printed()
            time.sleep(0.02)

    def kill(self) -> None:
        """The runner first, which would begin another attempt; then whatever runs for it."""
        self.process.kill()
        self.process.wait()
        for number in running(self.path):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        wait_for_orphans(self.path)

    def end(self) -> int:
        return self.process.wait()

    def printed(self) -> str:
        return self.log.read_text()

    @property
    def plan(self) -> Plan:
        return Plan.model_validate_json((self.path / "plan.json").read_bytes())

    def folder(self, step: Step) -> Folder:
        return step_folder(Folder.open(self.path.as_uri()), step.iteration, step.name)

    def manifest(self, step: Step) -> Manifest:
        found = read_manifest(self.folder(step))
        assert found is not None
        return found

    def under_way(self, step: Step) -> bool:
        """Whether its table is durable, from which a later attempt goes on; engine or training starts after that."""
        return bool(self.folder(step).files("prepared"))


def running(path: Path) -> Iterator[int]:
    """Processes that were started with something of that folder."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(path).encode() in entry.read_bytes():
                yield int(entry.parent.name)
