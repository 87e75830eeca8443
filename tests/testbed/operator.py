"""The operator as a process of its own, as a pod would run it."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from testbed.processes import Process, free_port
from testbed.waiting import until

CONFIG = "images: {generate: example.invalid/generate, train: example.invalid/train}\n"


class Operator(Process):
    """`selfalign-operator` (or another program that takes its options), with metrics and health on a port of its own."""

    def __init__(self, folder: Path, kubeconfig: Path, *arguments: str, program: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        config = folder / "operator.yaml"
        config.write_text(CONFIG)
        command = [sys.executable, *(program or ("-m", "selfalign_operator.cli")), f"--kubeconfig={kubeconfig}"]
        command += [f"--config={config}", f"--listen=127.0.0.1:{self.port}", *arguments]
        super().__init__(command, folder / f"operator-{self.port}.log")

    def wait_ready(self) -> None:
        """Returns when its cache is filled."""
        self.wait_for(f"http://127.0.0.1:{self.port}/readyz")

    def value(self, name: str, **labels: str) -> float:
        """A sample of /metrics, without the prefix of its name; 0 while there is none."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return 0.0
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"selfalign_operator_{name}" and labels.items() <= sample.labels.items()
        )

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.value("leader") == 1.0

    def wait_leads(self, seconds: float = 30) -> None:
        """Returns when it leads."""
        until(self.leads, "leader", seconds)
