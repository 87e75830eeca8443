"""A watcher of a local run for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfalign_jobs.places.store import Manifest
from selfalign_jobs.recipes.base import Step


class Recorder:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def found(self, step: Step, manifest: Manifest) -> None:
        self.told.append(f"found {step.name}")

    def started(self, step: Step, attempt: int) -> None:
        self.told.append(f"started {step.name} {attempt}")

    def progress(self, step: Step, snapshot: Mapping[str, Any]) -> None:
        self.told.append(f"progress {step.name} {snapshot}")

    def finished(self, step: Step, manifest: Manifest) -> None:
        self.told.append(f"finished {step.name}")

    def retried(self, step: Step, reason: str, wait: float) -> None:
        self.told.append(f"retried {step.name} after {wait}")

    def left_out(self, step: Step) -> None:
        self.told.append(f"left out {step.name}")
