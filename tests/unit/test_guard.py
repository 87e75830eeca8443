"""An engine's process that is killed while its children load leaves none of them: with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ENGINE = """
import multiprocessing, os, signal, subprocess, sys, time
from selfalign_jobs.generate.guard import guard_children

def load():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that is busy reads no signal
    time.sleep(600)

if __name__ == "__main__":
    if "session" in sys.argv:
        os.setsid()
    guard_children()
    children = [multiprocessing.get_context(way).Process(target=load) for way in ("fork", "spawn", "forkserver")]
    for child in children:
        child.start()
    compiler = subprocess.Popen(["sleep", "600"])
    print(*(child.pid for child in children), compiler.pid, flush=True)
    sys.stdin.readline()
    os._exit(0)
"""


ACTOR = """
import multiprocessing, time
from pathlib import Path
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.actors import EngineActor
from selfalign_jobs.generate.host import HostSetup

def load(model, engines):
    children = [multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,)) for _ in range(4)]
    for child in children:
        child.start()
    print(*(child.pid for child in children), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    setup = HostSetup(GenerationMeans(device="CPU"), Path, lambda model: None, load, {}, {}, 0, dict)
    EngineActor(setup).start()
"""


class Engine:
    """A process with four children that load."""

    def __init__(self, file: Path, *arguments: str) -> None:
        file.write_text(ACTOR if "actor" in arguments else ENGINE)
        path = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, str(file), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.children = [psutil.Process(int(pid)) for pid in self.process.stdout.readline().split()]

    @property
    def left(self) -> list[psutil.Process]:
        return [child for child in self.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    started: list[Engine] = []

    def start(*arguments: str) -> Engine:
        started.append(Engine(tmp_path / "engine.py", *arguments))
        return started[-1]

    yield start
    for engine in started:
        engine.process.kill()
        engine.process.communicate()
        for child in engine.left:
            child.kill()


def none_left(engine: Engine) -> bool:
    deadline = time.monotonic() + 60
    while engine.left and time.monotonic() < deadline:
        time.sleep(0.05)
    return not engine.left


@pytest.mark.parametrize("group", ["of its parent", "session", "actor"])
def test_a_killed_engine_leaves_no_child_however_it_was_started(start: Callable[..., Engine], group: str) -> None:
    engine = start(group)
    assert len(engine.left) == 4
    engine.process.send_signal(signal.SIGKILL)
    assert none_left(engine)


def test_one_that_ends_by_itself_leaves_none_either(start: Callable[..., Engine]) -> None:
    engine = start()
    engine.process.communicate("end\n")
    assert none_left(engine)


def test_whoever_started_it_lives_on(start: Callable[..., Engine]) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    engine = start()
    engine.process.send_signal(signal.SIGKILL)
    assert none_left(engine)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
