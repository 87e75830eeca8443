"""What a container has, by its cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfalign_api.errors import ConfigError
from selfalign_jobs.machine import CUDA, check_driver, cpus_here, free_memory_here, memory_here

CPUS = len(os.sched_getaffinity(0))
GIB = 1 << 30


def cgroup(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", CPUS), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", CPUS)]
)
def test_a_quota_bounds_the_cpus(tmp_path: Path, quota: str, cpus: int) -> None:
    assert cpus_here(cgroup(tmp_path, cpu_max=quota)) == cpus


def test_without_a_quota_all_cpus_of_the_affinity_count(tmp_path: Path) -> None:
    assert cpus_here(tmp_path) == CPUS


def test_a_limit_bounds_the_memory(tmp_path: Path) -> None:
    machine = memory_here(tmp_path)
    assert memory_here(cgroup(tmp_path, memory_max="max")) == machine
    assert memory_here(cgroup(tmp_path, memory_max=str(GIB))) == GIB


def test_free_memory_is_the_limit_less_what_is_used_and_no_mere_cache(tmp_path: Path) -> None:
    used = {"memory_current": str(GIB // 2), "memory_stat": f"anon 1\ninactive_file {GIB // 4}\nactive_file 5"}
    assert free_memory_here(cgroup(tmp_path, memory_max=str(GIB), **used)) == GIB - GIB // 4
    assert free_memory_here(cgroup(tmp_path, memory_max=str(GIB // 8), **used)) == 0
    assert free_memory_here(cgroup(tmp_path, memory_max="max", **used)) > 0


PROPRIETARY = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sat Aug 19 01:15:15 UTC 2023
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""


@pytest.mark.parametrize("text", [PROPRIETARY, OPEN])
@pytest.mark.parametrize(
    ("version", "refused"),
    [("470.256.02", True), ("535.104.05", True), ("575.57.08", True), ("580.65.06", False), ("590.10", False)],
)
def test_a_driver_that_cannot_run_our_cuda_is_refused_by_both_versions(
    tmp_path: Path, text: str, version: str, refused: bool
) -> None:
    file = tmp_path / "version"
    file.write_text(text.format(version))
    if not refused:
        check_driver(file)
        return
    with pytest.raises(
        ConfigError, match=rf"spec.compute.device: the NVIDIA driver here is {version}, .* wants 580 or"
    ):
        check_driver(file)


def test_without_word_of_a_driver_nothing_is_refused(tmp_path: Path) -> None:
    check_driver(tmp_path / "version")
    (tmp_path / "version").write_text("something else\n")
    check_driver(tmp_path / "version")


def test_the_locked_wheels_are_of_the_cuda_that_the_driver_is_checked_for() -> None:
    for lock in ("generate.txt", "train.txt"):
        text = (Path(__file__).parents[2] / "requirements" / lock).read_text()
        assert f"\nnvidia-cuda-runtime=={CUDA}." in text
