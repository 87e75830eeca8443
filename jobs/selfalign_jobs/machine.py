"""What this machine, or this container of it, has; without loading torch."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from selfalign_api.errors import ConfigError

CGROUP = Path("/sys/fs/cgroup")  # version 2: a container sees its own there
NVIDIA = Path("/proc/driver/nvidia/version")  # a container with a GPU sees its node's; Windows' Linux has none
CUDA, OLDEST_DRIVER = 13, 580  # of the wheels of requirements/gpu.txt, and the driver that CUDA 13 wants


def cache_folder(what: str) -> Path:
    """Where this user keeps what can be had again: XDG_CACHE_HOME/selfalign/WHAT."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfalign" / what


def gpus_here() -> int:
    """GPUs by their device files, less those that CUDA_VISIBLE_DEVICES hides."""
    devices = [device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(devices)
    return min(len(devices), len([entry for entry in visible.split(",") if entry not in ("", "-1")]))


def gpu_memory_here() -> int | None:
    """Bytes of the smallest GPU's memory, as its driver's tool says; None where that is not known."""
    if not gpus_here():
        return None
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = [int(line) << 20 for line in said.split() if line.isdigit()]
    return min(found, default=None)


def check_driver(said: Path = NVIDIA) -> None:
    """ConfigError for a driver that cannot run the CUDA of our wheels, before anything large is fetched for it."""
    found = re.search(r"Kernel Module.*?\s(\d+)\.(\d[\d.]*)", said.read_text()) if said.exists() else None
    if found is not None and int(found[1]) < OLDEST_DRIVER:
        message = (
            f"the NVIDIA driver here is {found[1]}.{found[2]}, and CUDA {CUDA}, which this image computes with, wants "
            f"{OLDEST_DRIVER} or newer; update it, or choose nodes that have it (compute.podTemplate), or write CPU"
        )
        raise ConfigError.one("spec.compute.device", message)


# Threads of OpenMP sleep where they wait for one another: to spin, as they would, takes the cores from whoever is waited for
# as soon as something else computes on the machine.
OPENMP = {"OMP_WAIT_POLICY": "PASSIVE"}


def cpus_here(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use at once: its affinity, or less where a container's quota is less; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = cgroup / "cpu.max"  # "QUOTA PERIOD", or "max PERIOD"
    if not quota.exists():
        return allowed
    limit, period = quota.read_text().split()
    return allowed if limit == "max" else max(1, min(allowed, int(limit) // int(period)))


def memory_here(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this container may use: the machine's, or less where its limit is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _limit(cgroup)
    return machine if limit is None else min(machine, limit)


def free_memory_here(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that are left to this container; what only caches files counts as left."""
    free = _field(Path("/proc/meminfo"), "MemAvailable:") * 1024
    if (limit := _limit(cgroup)) is None:
        return free
    used = int((cgroup / "memory.current").read_text()) - _field(cgroup / "memory.stat", "inactive_file")
    return max(0, min(free, limit - used))


def _limit(cgroup: Path) -> int | None:
    file = cgroup / "memory.max"
    text = file.read_text().strip() if file.exists() else "max"
    return None if text == "max" else int(text)


def _field(file: Path, name: str) -> int:
    return int(next(line for line in file.read_text().splitlines() if line.startswith(name)).split()[1])
