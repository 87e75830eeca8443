"""A real MLflow tracking server, in an environment of its own beside the programs: it wants an older pyarrow than we do."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.binaries import NoBinaries, cache, locked
from testbed.processes import Process, free_port

LOCK = Path(__file__).parents[2] / "requirements" / "mlflow.txt"
APPLICATION = (
    "mlflow.server.fastapi_app:app"  # what `mlflow server` starts, in a process of its own, beside many others
)


@dataclass(frozen=True)
class TrackingServer:
    """A running server."""

    url: str
    process: Process


def install() -> None:
    """Makes the environment, once. Raises NoBinaries where it cannot be: PyPI is not reached."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if (folder / "whole").exists():
            return
        shutil.rmtree(folder / "venv", ignore_errors=True)
        print("testbed: installing MLflow", file=sys.stderr, flush=True)
        uv = Path(sys.executable).with_name("uv")
        commands: tuple[list[str | Path], ...] = (
            [sys.executable, "-m", "venv", "--without-pip", folder / "venv"],
            [uv, "pip", "sync", "-q", "--python", folder / "venv/bin/python", LOCK],
        )
        for command in commands:
            if subprocess.run(command).returncode != 0:
                raise NoBinaries("MLflow could not be installed from PyPI; the output is above")
        (folder / "whole").touch()


@contextmanager
def serve(folder: Path, host: str = "127.0.0.1") -> Iterator[TrackingServer]:
    """Serve what a folder keeps, on loopback or another address of this machine, while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://{host}:{(port := free_port())}"
    # What `mlflow server --backend-store-uri --artifacts-destination` says to its own child.
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/tracking.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": (folder / "artifacts").as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": "",
    }
    words = [f"{name}={value}" for name, value in settings.items()]
    command: list[str | Path] = ["env", *words, _folder() / "venv/bin/python", "-m", "uvicorn", APPLICATION]
    process = Process([*command, "--host", host, "--port", str(port)], folder / "log.txt", name="mlflow")
    try:
        process.wait_for(f"{url}/health", seconds=300)  # it imports for ten seconds alone
        yield TrackingServer(url, process)
    finally:
        process.stop()


def _folder() -> Path:
    """`<cache>/selfalign/testbed/mlflow-<hash>`: another lock or another Python is another folder."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    return cache() / f"mlflow-{digest[:16]}"
