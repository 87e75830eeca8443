"""What this machine has, without loading torch."""

from __future__ import annotations

import os
import re
from pathlib import Path


def gpus_here() -> int:
    """GPUs by their device files, less those that CUDA_VISIBLE_DEVICES hides."""
    devices = [device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(devices)
    return min(len(devices), len([entry for entry in visible.split(",") if entry not in ("", "-1")]))
