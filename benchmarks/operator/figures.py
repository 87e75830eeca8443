"""What both benchmarks share: a cluster to talk to, the operator's own metrics, memory and CPU time of processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]

from operators import OperatorProcess  # noqa: E402

from selfalign_operator.kube.client import ApiError, Connection, Kube  # noqa: E402

AT_ONCE = 16
SAMPLE = re.compile(r"(?m)^selfalign_operator_(?P<name>\w+)(?:{(?P<labels>[^}]*)})? (?P<value>\S+)")

REQUESTS = re.compile(r'(?m)^apiserver_request_total{[^}]*verb="(?P<verb>\w+)"[^}]*} (?P<value>\S+)')
WRITING = ("APPLY", "DELETE", "PATCH", "POST", "PUT")
LOOK_SECONDS = 3.0


class Unwatched:
    """Nobody wants to know of our calls (kube.traffic.Traffic)."""

    def answered(self, verb: str, code: str) -> None:
        """A call."""

    def frame(self, collection: Any) -> None:
        """A watch."""

    def refused(self, collection: Any) -> None:
        """A list or a watch that is forbidden."""

    def page(self, collection: Any, first: bool, body: Any) -> None:
        """A list."""


async def open_kube(kubeconfig: Path) -> tuple[Connection, Kube]:
    """A client of the cluster that is not the operator's."""
    connection = Connection(kubeconfig, Unwatched())
    await connection.open()
    return connection, Kube(connection, lambda: None)


async def make_namespace(connection: Connection, name: str) -> None:
    """The namespace, if it is not there."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        await connection.call("POST", "/api/v1/namespaces", body=manifest)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def come_to_rest(connection: Connection) -> None:
    """Returns when hardly anything is written any more: controllers go on telling Events after the work is done."""
    before = await _writes(connection)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = await _writes(connection)
        if now - before <= LOOK_SECONDS:  # nodes are kept alive meanwhile
            return
        before = now


async def _writes(connection: Connection) -> float:
    """How many there have been."""
    said = (await connection.call("GET", "/metrics")).decode()
    return sum(float(each["value"]) for each in REQUESTS.finditer(said) if each["verb"] in WRITING)


async def at_once(calls: Iterable[Callable[[], Awaitable[Any]]], limit: int = AT_ONCE) -> None:
    """Make the calls, so many at a time."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())


def samples(operator: OperatorProcess) -> list[tuple[str, str, float]]:
    """Name (without its prefix), labels and value of all that the operator says of itself; [] while it says nothing."""
    found = SAMPLE.finditer(operator.read("/metrics") or "")
    return [(each["name"], each["labels"] or "", float(each["value"])) for each in found]


def total(of: list[tuple[str, str, float]], name: str, label: str = "") -> float:
    """Sum of the samples of that name that have this label."""
    return sum(value for each, labels, value in of if each == name and label in labels)


def calls_by_verb(of: list[tuple[str, str, float]]) -> dict[str, int]:
    """The operator's calls of the apiserver, by verb."""
    counted: dict[str, int] = {}
    for name, labels, value in of:
        if name == "api_calls_total" and (verb := re.search(r'verb="(\w+)"', labels)):
            counted[verb[1]] = counted.get(verb[1], 0) + int(value)
    return counted


def memory(pid: int) -> tuple[float, float]:
    """Resident memory now and at most, MB (10⁶ bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, most = (re.search(rf"{field}:\s+(\d+) kB", status) for field in ("VmRSS", "VmHWM"))
    assert now and most
    return int(now[1]) * 1024 / 1e6, int(most[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def control_plane(folder: Path) -> dict[str, int]:
    """Names and pids of the programs that `make cluster` has started."""
    found: dict[str, int] = json.loads((folder / "pids.json").read_text())
    return found


def heading() -> str:
    """Date, machine, load and versions, for the README."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in ("kopf", "kubernetes", "aiohttp", "pydantic"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{date.today()}; {os.cpu_count()} cores ({model[1] if model else 'unknown'}), load {load}; "
        f"Python {sys.version.split()[0]}, {versions}"
    )
