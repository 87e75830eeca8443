"""The duties of process 1, on a process that the kernel gives orphans to as to process 1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
from selfalign_jobs.step.init import supervise, take_signals
supervise(lambda: None)
"""


def start(body: str, *arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", PROGRAM + body, *arguments]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True)


def test_it_ends_with_the_programs_code_and_the_program_gets_its_childrens() -> None:
    body = (
        "codes = [subprocess.run(['sh', '-c', f'exit {n}']).returncode for n in range(20)]\nprint(codes)\nsys.exit(75)"
    )
    process = start(body)
    assert process.communicate()[0] == f"{list(range(20))}\n"
    assert process.returncode == 75


def test_orphans_are_reaped() -> None:
    body = """
orphan = subprocess.run(['sh', '-c', 'sleep 0.1 >/dev/null & echo $!'], stdout=subprocess.PIPE, text=True).stdout.strip()
while os.path.exists(f'/proc/{orphan}'):
    time.sleep(0.01)
"""
    process = start(body)
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_program_also_before_it_has_handlers(number: signal.Signals) -> None:
    body = """
print('forked', flush=True)
time.sleep(0.3)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGINT, lambda *_: sys.exit(75))
take_signals()
time.sleep(60)
"""
    process = start(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    process.send_signal(number)
    assert process.wait(timeout=30) == 75


def test_it_says_what_a_killed_program_cannot(tmp_path: Path) -> None:
    message = tmp_path / "message"
    process = start("os.kill(os.getpid(), signal.SIGKILL)", "--termination-message", str(message))
    assert process.wait() == 137
    assert "SIGKILL" in json.loads(message.read_text())["error"]
