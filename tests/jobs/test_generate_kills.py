"""Exactly once: kill -9 of actor, raylet, driver, everything, before, inside and after a commit, then resume.

Real Ray, a fake engine that logs every request. `make generate-kills` runs more seeds (SELFALIGN_KILL_SEEDS).
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from attempts import Attempt
from logged_engine import read_logs
from tiny_run import STEP, step_config, tiny_plan

from selfalign_jobs.generate.records import PreparedRows
from selfalign_jobs.places.store import Folder, Manifest, parts_of, read_manifest, read_parts, step_folder

SEEDS = int(os.environ.get("SELFALIGN_KILL_SEEDS", "10"))  # ten have every target and every place
PLACES = ("written", "flushed", "renaming", "renamed", "committed")
TARGETS = ("actor", "raylet", "driver", "everything")
AT_ONCE = 2  # Ray gives a node 30 s to start, and another file of tests runs beside this one
PERSONAS, HELD_OUT = 90, 30


def attempt(folder: Path, number: int, kill: str | None = None) -> Attempt:
    """One attempt at the step, with a fake engine on two actors."""
    log = folder / "log"
    log.mkdir(exist_ok=True)
    config = step_config(tiny_plan(PERSONAS, HELD_OUT), folder / "run", number, replicas=2)
    return Attempt(folder, config, str(log), kill)


def wait_for_requests(running: Attempt, log: Path, count: int) -> None:
    """Until the engines have logged so many requests more, or the program is over."""
    goal = len(read_logs(log)) + count
    running.wait_until(lambda: len(read_logs(log)) >= goal)


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
        first = attempt(folder, 1, f"{place}:{draw.randint(1, 5)}:{draw.choice(('driver', 'everything'))}")
        assert first.end() == -signal.SIGKILL
    else:
        first = attempt(folder, 1)
        wait_for_requests(first, folder / "log", draw.randint(1, 250))
        first.kill(TARGETS[seed // 2 % len(TARGETS)])
        first.end()
    second = attempt(folder, 2)
    if draw.random() < 0.3:
        wait_for_requests(second, folder / "log", draw.randint(1, 60))
        second.kill("actor")
    assert second.end() == 0, second.output
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
