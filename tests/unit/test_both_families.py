"""Pods and the operator listen where a cluster's addresses are: IPv4, IPv6, or both."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from selfalign_api.errors import ConfigError
from selfalign_jobs.step.progress import Progress, ProgressServer
from selfalign_operator.cli import options_of, parser
from selfalign_operator.health import Health, HealthServer

FAMILIES = ("127.0.0.1", "[::1]")


async def yes() -> bool:
    return True


def free_port() -> int:
    """Free on both families."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize("host", FAMILIES)
def test_a_step_without_a_host_answers_on_both(host: str) -> None:
    server = ProgressServer(Progress("i1-train"), "", 0)
    try:
        port = server.address.rpartition(":")[2]
        with urllib.request.urlopen(f"http://{host}:{port}/progress", timeout=5) as answer:
            assert b"i1-train" in answer.read()
    finally:
        server.close()


@pytest.mark.parametrize(("host", "other"), [FAMILIES, FAMILIES[::-1]])
def test_a_step_with_a_host_answers_there_alone_and_says_where(host: str, other: str) -> None:
    server = ProgressServer(Progress("i1-train"), host, 0)
    try:
        assert urllib.request.urlopen(f"http://{server.address}/progress", timeout=5).status == 200
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"http://{server.address.replace(host, other)}/progress", timeout=5)
    finally:
        server.close()


def test_a_machine_without_ipv6_is_served_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    server = ProgressServer(Progress("i1-train"), "", 0)
    try:
        port = server.address.rpartition(":")[2]
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=5).status == 200
    finally:
        server.close()


@pytest.mark.parametrize("host", FAMILIES)
def test_the_operator_answers_on_both(host: str) -> None:
    health = Health(dict, lambda: 0.0, lambda: True, lambda: "yes", tuple, yes)

    async def ask() -> int:
        options = options_of(parser().parse_args(["--config=x", f"--listen=:{free_port()}"]))
        server = HealthServer(health, CollectorRegistry())
        await server.start(options.host, options.port)
        try:
            url = f"http://{host}:{options.port}/healthz"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status
        finally:
            await server.close()

    assert asyncio.run(ask()) == 200


@pytest.mark.parametrize("text", ["8080", "", "a:b", ":70000", "::"])
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    arguments: Any = parser().parse_args(["--config=x", f"--listen={text}"])
    with pytest.raises(ConfigError, match=r"write :8080 for all addresses"):
        options_of(arguments)
