"""A role that stops at a text, on the real vLLM: what is written ends with that text, and is what is written without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stop_probe import STOP
from trainings import MODEL

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def test_a_sample_ends_with_the_text_at_which_its_role_stops() -> None:
    command = [sys.executable, str(Path(__file__).parent / "stop_probe.py"), str(MODEL)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    ((whole, _),) = found["whole"]
    before, stop, after = whole.partition(STOP)
    assert stop and after  # else nothing would be seen here
    assert found["stopped"] == [[before + stop, "stop"]]
    assert any(text.endswith(STOP) for text, _ in found["sampled"])
    assert all(text.find(STOP) in (-1, len(text) - len(STOP)) for text, _ in found["sampled"])
