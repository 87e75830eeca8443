"""The operator as people start it: a process beside the cluster."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from testbed.processes import free_port
from testbed.waiting import until

CONFIG = "images: {generate: example.invalid/generate, train: example.invalid/train}\n"


class OperatorProcess:
    """`selfalign-operator` with a kubeconfig; its log is in `folder`."""

    def __init__(self, folder: Path, kubeconfig: Path, *options: str, config: str = CONFIG) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "operator.yaml").write_text(config)
        self.port = free_port()
        self.log = folder / "operator.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "selfalign_operator.cli", f"--kubeconfig={kubeconfig}"),
                    *(f"--config={folder / 'operator.yaml'}", f"--listen=127.0.0.1:{self.port}", *options),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def read(self, path: str) -> str | None:
        """What it answers at `/metrics`, `/healthz` or `/readyz`; None while it does not, or says no."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                body: bytes = answer.read()
        except (OSError, urllib.error.HTTPError):
            return None
        return body.decode()

    def wait_ready(self) -> None:
        """Until it is ready. Raises TimeoutError with the end of its log."""
        try:
            until(lambda: self.read("/readyz") is not None or self.process.poll() is not None, "ready operator")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log.read_text()[-4000:]}") from None
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=30)


def stop_all(operators: Sequence[OperatorProcess]) -> None:
    """End all that still run."""
    for operator in operators:
        operator.stop(signal.SIGKILL)
