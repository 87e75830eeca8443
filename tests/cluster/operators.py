"""The operator as people start it: a process beside the cluster."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from testbed.processes import free_port
from testbed.waiting import until

OWN_ERROR = re.compile(r"an error of the operator's own|Traceback")
CONFIG = "images: {generate: example.invalid/generate, train: example.invalid/train}\n"


class OperatorProcess:
    """`selfalign-operator` (or another `program` with its options) with a kubeconfig; its log is in `folder`."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        *options: str,
        config: str = CONFIG,
        program: Sequence[str] = ("-m", "selfalign_operator.cli"),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "operator.yaml").write_text(config)
        self.port = free_port()
        self.log = folder / "operator.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *program, f"--kubeconfig={kubeconfig}"),
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

    def value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 without any. Its name without selfalign_operator_."""
        families = text_string_to_metric_families(self.read("/metrics") or "")
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"selfalign_operator_{name}" and labels.items() <= sample.labels.items()
        )

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.value("leader") == 1.0

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


class ForkedOperator:
    """The same program, forked from a process that has imported it already: for tests that start it a hundred times."""

    def __init__(self, folder: Path, kubeconfig: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "operator.yaml").write_text(CONFIG)
        self.log = folder / "operator.log"
        listen = f"--listen=127.0.0.1:{free_port()}"
        arguments = [f"--kubeconfig={kubeconfig}", f"--config={folder / 'operator.yaml'}", listen, *options]
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["selfalign_operator.cli"])
        self._process = context.Process(target=_serve, args=(arguments, self.log), daemon=True)
        self._process.start()

    def has_ended(self) -> bool:
        """Whether it has, by itself or not."""
        return not self._process.is_alive()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self._process.is_alive():
            os.kill(self._process.pid, number)
        self._process.join(30)
        code: int = self._process.exitcode
        return code


def _serve(arguments: list[str], log: Path) -> None:
    with log.open("ab") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    from selfalign_operator.cli import main

    sys.exit(main(arguments))


def stop_all(operators: Sequence[OperatorProcess]) -> None:
    """End all that still run."""
    for operator in operators:
        operator.stop(signal.SIGKILL)
