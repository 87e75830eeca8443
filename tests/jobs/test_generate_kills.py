"""Exactly once: kill -9 of actor, raylet, driver, everything, before, inside and after a commit, then resume.

Real Ray, a fake engine that logs every request. `make generate-kills` runs more seeds (SELFALIGN_KILL_SEEDS).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from logged_engine import read_logs
from tiny_run import STEP, step_config, tiny_plan

from selfalign_jobs.generate.records import PreparedRows
from selfalign_jobs.store import Folder, Manifest, parts_of, read_manifest, read_parts, step_folder

SEEDS = int(os.environ.get("SELFALIGN_KILL_SEEDS", "20"))
PLACES = ("written", "flushed", "renaming", "renamed", "committed")
TARGETS = ("actor", "raylet", "driver", "everything")
AT_ONCE = 3
PERSONAS, HELD_OUT = 90, 30
PATIENCE_SECONDS = 120.0  # for a state that must come; never part of what is asserted
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


class Attempt:
    """One run of the step program, and every process under it."""

    def __init__(self, folder: Path, number: int, kill: str | None = None) -> None:
        self.log = folder / "log"
        self.log.mkdir(exist_ok=True)
        config = folder / f"config-{number}.json"
        plan = tiny_plan(PERSONAS, HELD_OUT)
        config.write_text(step_config(plan, folder / "run", number, replicas=2).model_dump_json())
        script = Path(__file__).with_name("killed_step.py")
        command = [sys.executable, str(script), str(config), str(self.log), *([kill] if kill else [])]
        self.output = (folder / f"output-{number}.txt").open("w")
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=self.output, stderr=subprocess.STDOUT)
        self.root = psutil.Process(self.process.pid)
        self.family: set[psutil.Process] = set()

    def look(self) -> set[psutil.Process]:
        """All processes under this attempt, dead or alive."""
        with suppress(psutil.NoSuchProcess):
            self.family |= set(self.root.children(recursive=True))
        return self.family

    def kill(self, target: str) -> None:
        """SIGKILL one actor, the raylet, the driver, or everything at once."""
        family = [process for process in self.look() if process.is_running()]
        if target == "actor":
            victims = [process for process in family if is_actor(process)][:1]
        elif target == "raylet":
            victims = [process for process in family if is_raylet(process)]
        else:
            victims = [self.root, *(family if target == "everything" else [])]
        for victim in victims:
            if victim.is_running():
                victim.kill()

    def end(self) -> int:
        """Wait until the program has ended, and all that it started."""
        while self.process.poll() is None:
            self.look()
            time.sleep(0.05)
        # Ray's own agents notice a killed raylet within a minute; nothing that holds an engine may outlive the step.
        engines = [process for process in self.family if not is_ray_agent(process)]
        _, alive = psutil.wait_procs(engines, timeout=PATIENCE_SECONDS)
        assert not alive, f"these outlive the step: {[command_of(process) for process in alive]}"
        for agent in self.family:
            if agent.is_running():
                agent.kill()
        self.output.close()
        return self.process.returncode


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def is_actor(process: psutil.Process) -> bool:
    return command_of(process).startswith("ray::EngineActor")


def is_raylet(process: psutil.Process) -> bool:
    return command_of(process).split(" ")[0].endswith("/raylet")


def is_ray_agent(process: psutil.Process) -> bool:
    return "agent" in command_of(process).split("raylet")[0] and not is_actor(process)


def wait_for_requests(attempt: Attempt, count: int) -> None:
    """Until the engines have logged so many requests more, or the program is over."""
    goal = len(read_logs(attempt.log)) + count
    deadline = time.monotonic() + PATIENCE_SECONDS
    while attempt.process.poll() is None and len(read_logs(attempt.log)) < goal:
        attempt.look()
        assert time.monotonic() < deadline, "the engines stand still"
        time.sleep(0.01)


def manifest_of(folder: Path) -> tuple[Folder, Manifest]:
    place = step_folder(Folder.open((folder / "run").as_uri()), 1, STEP)
    manifest = read_manifest(place)
    assert manifest is not None
    return place, manifest


def check_exactly_once(folder: Path) -> None:
    """No record lost, none twice, and no request for a record that was durable when it was made."""
    place, manifest = manifest_of(folder)
    durable_at: dict[str, int] = {}
    for table, rows in (("pairs", PERSONAS), ("initial-answers", HELD_OUT)):
        counted = read_parts(place, manifest.tables[table])
        sources = dict(zip(counted["_source"].to_pylist(), counted["_record"].to_pylist(), strict=True))
        assert sorted(sources) == list(range(rows)), "a record is lost"
        prepared = PreparedRows(place.read_table(f"prepared/{table}.parquet"), table, manifest.digest)
        assert prepared.ids(list(range(rows))) == [sources[source] for source in range(rows)]
        holders = Counter(
            record
            for part in manifest.tables[table].parts
            for record in set(place.read_table(part)["_record"].to_pylist())
        )
        assert set(holders.values()) == {1}, "a record counts twice"
        for part in parts_of(place, table):
            assert place.local is not None
            when = (place.local / part).stat().st_mtime_ns
            for record in set(place.read_table(part)["_record"].to_pylist()):
                durable_at[record] = min(when, durable_at.get(record, when))
    asked = read_logs(folder / "log")
    assert {line.record for line in asked} == set(durable_at)
    again = [line for line in asked if line.nanoseconds > durable_at[line.record]]
    assert not again, f"{len(again)} requests for records that were durable"


def play(seed: int, folder: Path) -> None:
    """Kill as the seed says, resume, and look whether every record was made once."""
    draw = random.Random(seed)
    if seed % 2:
        place = PLACES[seed // 2 % len(PLACES)]
        first = Attempt(folder, 1, f"{place}:{draw.randint(1, 5)}:{draw.choice(('driver', 'everything'))}")
        assert first.end() == -signal.SIGKILL
    else:
        first = Attempt(folder, 1)
        wait_for_requests(first, draw.randint(1, 250))
        first.kill(TARGETS[seed // 2 % len(TARGETS)])
        first.end()
    second = Attempt(folder, 2)
    if draw.random() < 0.3:
        wait_for_requests(second, draw.randint(1, 60))
        second.kill("actor")
    assert second.end() == 0, (folder / "output-2.txt").read_text()[-2000:]
    check_exactly_once(folder)


@pytest.fixture(scope="module", name="played")
def _played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Future[None]]]:
    """All seeds, a few at a time: most of what an attempt takes is Ray's start, which mostly waits."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield [pool.submit(play, seed, tmp_path_factory.mktemp(f"seed{seed}")) for seed in range(SEEDS)]


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_anywhere_and_resumed_every_record_is_made_once(played: list[Future[None]], seed: int) -> None:
    played[seed].result()
