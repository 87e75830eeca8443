"""The pods of a gang as processes of this machine, each with a loopback address of its own."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attempts import Attempt

from selfalign_api.run_file import StepConfig
from testbed.processes import free_port

HEAD = "127.0.0.2"


class GangOf:
    """What the pods of one gang share."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.environment = {
            "SELFALIGN_GANG_SIZE": str(size),
            "SELFALIGN_GANG_HEAD": HEAD,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_gcs_rpc_server_reconnect_timeout_s": "3",  # a helper notices sooner than in a cluster that its head is gone
            "TEST_RAY_PORT": str(free_port()),
        }

    def pod(self, index: int, config: StepConfig, engine: str) -> Pod:
        """Start a pod, or the one that replaces it."""
        return Pod(self, index, config, engine)


class Pod(Attempt):
    """One pod of a gang."""

    def __init__(self, gang: GangOf, index: int, config: StepConfig, engine: str) -> None:
        folder = gang.folder / f"pod-{index}"
        folder.mkdir(exist_ok=True)
        self._address, self._message = folder / "address", folder / "message"
        for file in (self._address, self._message):
            file.unlink(missing_ok=True)
        # A short folder for Ray's sockets, whose paths are bounded; and not the other pods'.
        self.scratch = tempfile.mkdtemp(prefix="pod-", dir="/tmp")
        own = {"JOB_COMPLETION_INDEX": str(index), "POD_IP": f"127.0.0.{index + 2}", "TMPDIR": self.scratch}
        options = ["--address-file", str(self._address), "--termination-message", str(self._message)]
        super().__init__(folder, config, engine, environment=gang.environment | own, options=options)

    def remove(self) -> None:
        """End what is left of it."""
        self.kill("everything")
        self.end()
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def message(self) -> dict[str, Any]:
        """Its termination message."""
        said: dict[str, Any] = json.loads(self._message.read_text())
        return said

    def progress(self) -> Mapping[str, Any]:
        """Its `/progress`; empty before it is served."""
        try:
            with urllib.request.urlopen(f"http://{self._address.read_text()}/progress", timeout=5) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (OSError, ValueError):
            return {}
