"""What a container has, by its cgroup."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfalign_jobs.machine import cpus_here, free_memory_here, memory_here

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
