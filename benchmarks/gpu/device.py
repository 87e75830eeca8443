"""The device that a figure was measured on: its line, its versions, and how much of its memory is in use."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """A GPU, or this machine's processor where there is none."""

    kind: str  # GPU or CPU
    line: str
    handle: Any = None  # NVML's

    def used(self) -> int:
        """Bytes of a GPU's memory that any process holds. NVML asks the driver: this process holds none of it."""
        import pynvml

        return int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used)


def find(*, cpu: bool = False) -> Device:
    """The first GPU that CUDA_VISIBLE_DEVICES shows, or the processor: where there is no GPU, or `cpu` is asked for."""
    if cpu or (gpu := _gpu()) is None:
        return Device("CPU", f"no GPU: {_processor()}, {len(os.sched_getaffinity(0))} cores")
    return gpu


def _gpu() -> Device | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        shown = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
        by_name = pynvml.nvmlDeviceGetHandleByUUID
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(shown)) if shown.isdigit() else by_name(shown)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB
        name, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return Device("GPU", f"{name}, {memory:.0f} GiB, compute capability {major}.{minor}, driver {driver}", handle)


def today(packages: Iterable[str]) -> str:
    """The date, and the versions of those packages that are here."""
    found = [f"{package} {there}" for package in packages if (there := _version(package)) is not None]
    return ", ".join([time.strftime("%Y-%m-%d"), *found, f"Python {platform.python_version()}"])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()
