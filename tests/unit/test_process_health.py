"""Health: alive and ready mean what a restart, or waiting, would mend."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from selfalign_operator.health import Health, HealthServer


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


def ask(path: str, **said: Any) -> tuple[int, str]:
    health: dict[str, Any] = {
        "watch_ages": lambda: {"jobs": 12.0},
        "longest_work": lambda: 0.5,
        "synced": lambda: True,
        "leader": lambda: "no: other leads",
        "unread": tuple,
        "apiserver_ready": yes,
    }

    async def run() -> tuple[int, str]:
        server = HealthServer(Health(**(health | said)), CollectorRegistry())
        port = await server.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
                return response.status, await response.text()
        finally:
            await server.close()

    return asyncio.run(run())


def test_a_standby_that_hears_its_watches_is_alive_and_ready() -> None:
    assert ask("/healthz") == (200, "ok\nleader: no: other leads\nwatch jobs: 12 s ago\n")
    assert ask("/readyz")[0] == 200


@pytest.mark.parametrize(("apiserver", "status"), [(yes, 500), (no, 200)])
def test_a_silent_watch_is_a_reason_to_restart_only_while_the_apiserver_answers(apiserver: Any, status: int) -> None:
    assert ask("/healthz", watch_ages=lambda: {"jobs": 151.0}, apiserver_ready=apiserver)[0] == status
    assert ask("/readyz", watch_ages=lambda: {"jobs": 151.0})[0] == 500


def test_a_worker_that_does_not_come_back_is_a_reason_to_restart() -> None:
    assert ask("/healthz", longest_work=lambda: 301.0)[0] == 500


def test_a_cache_that_is_not_filled_is_not_ready_but_alive() -> None:
    assert ask("/readyz", synced=lambda: False)[0] == 500
    assert ask("/healthz", synced=lambda: False)[0] == 200


def test_metrics_are_served_in_the_format_of_prometheus() -> None:
    status, text = ask("/metrics")
    assert (status, text) == (200, "")


def test_a_namespace_that_may_not_be_read_is_named_and_keeps_nobody_from_being_ready() -> None:
    status, words = ask("/readyz", unread=lambda: ("team-a",))
    assert status == 200
    assert "namespace team-a cannot be read: its runs wait for a RoleBinding" in words
