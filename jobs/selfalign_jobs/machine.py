"""What this machine has, without loading torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """GPUs that the driver shows, and cores that this process may use."""

    gpus: int
    cores: int

    @property
    def words(self) -> str:
        """For messages: what is there."""
        gpus = "no GPU" if self.gpus == 0 else f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"
        return f"{gpus}, {self.cores} core{'s' if self.cores > 1 else ''}"


def this_machine() -> Machine:
    """GPUs by their device files (less those that CUDA_VISIBLE_DEVICES hides), cores by affinity."""
    devices = [device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        len(devices)
        if visible is None
        else min(len(devices), len([v for v in visible.split(",") if v not in ("", "-1")]))
    )
    return Machine(gpus=gpus, cores=len(os.sched_getaffinity(0)))
