"""Generation on a Ray cluster that is there already, as on Kubernetes."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from attempts import ENVIRONMENT, PATIENCE_SECONDS, Attempt
from logged_engine import HOLD
from tiny_run import STEP, step_config, tiny_plan

from selfalign_jobs.places.store import Folder, read_manifest, step_folder
from testbed.processes import free_port

PERSONAS, HELD_OUT = 60, 20


@pytest.fixture(name="address")
def _address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray head node on a free port, closed to all without its token."""
    for name, value in (("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", secrets.token_hex(32))):
        monkeypatch.setitem(ENVIRONMENT, name, value)
    port = free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=2"]
    before = set(psutil.Process().children(recursive=True))
    head = subprocess.Popen(
        [*command, "--include-dashboard=false", "--block"],
        env=ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert head.stdout is not None
    for line in head.stdout:
        if "Ray runtime started" in line:
            break
    yield f"127.0.0.1:{port}"
    for process in set(psutil.Process().children(recursive=True)) - before:
        process.kill()
    head.wait()


@pytest.mark.heavy
def test_a_step_uses_the_cluster_that_ray_address_names(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "RAY_ADDRESS", address)
    log = tmp_path / "log"
    log.mkdir()
    running = Attempt(tmp_path, step_config(tiny_plan(PERSONAS, HELD_OUT), tmp_path / "run", 1, replicas=2), str(log))
    assert running.end() == 0, running.output
    manifest = read_manifest(step_folder(Folder.open((tmp_path / "run").as_uri()), 1, STEP))
    assert manifest is not None
    assert manifest.result["records"] == {"pairs": PERSONAS, "initial-answers": HELD_OUT}
    assert not [child for child in running.family if "raylet" in child.name()], "it started a cluster of its own"
    pids = {int(file.stem) for file in log.glob("*.log")}
    assert len(pids) == 2
    actors = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(actors, timeout=PATIENCE_SECONDS)
    assert not alive, "its actors outlive it"
    with socket.create_connection(address.split(":"), timeout=10):
        pass  # the cluster lives on


def has_raylet(attempt: Attempt) -> bool:
    """Whether a Ray of its own is under it."""
    for child in attempt.look():
        with suppress(psutil.NoSuchProcess):
            if "raylet" in child.name():
                return True
    return False


@pytest.mark.heavy
def test_two_steps_at_once_have_rays_of_their_own_beside_it_on_a_machine_as_it_is(address: str, tmp_path: Path) -> None:
    """Proxies that nobody listens at, a TMPDIR that no socket bears, no home: and another's Ray is left alone."""
    temporary = tmp_path / "a temporary folder" / ("x" * 90)
    temporary.mkdir(parents=True)
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    surroundings = proxies | {"no_proxy": "", "NO_PROXY": "", "TMPDIR": str(temporary), "HOME": "/proc"}
    running = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "log").mkdir(parents=True)
        (folder / "log" / HOLD).touch()  # until both have been looked at
        config = step_config(tiny_plan(PERSONAS, HELD_OUT), folder / "run", 1)
        running.append(Attempt(folder, config, str(folder / "log"), environment=surroundings))
    for name, attempt in zip(("one", "two"), running, strict=True):
        attempt.wait_until(lambda attempt=attempt: has_raylet(attempt))
        assert has_raylet(attempt), attempt.output
        (tmp_path / name / "log" / HOLD).unlink()
    for attempt in running:
        assert attempt.end() == 0, attempt.output
    for name in ("one", "two"):
        manifest = read_manifest(step_folder(Folder.open((tmp_path / name / "run").as_uri()), 1, STEP))
        assert manifest is not None
        assert manifest.result["records"] == {"pairs": PERSONAS, "initial-answers": HELD_OUT}
    with socket.create_connection(address.split(":"), timeout=10):
        pass
