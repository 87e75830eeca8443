"""What throughput.py compares with: the same rendered Jobs, each POSTed when the one before it is Complete. Nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from figures import Unwatched, at_once

from selfalign_operator.kube.access import open_session
from selfalign_operator.kube.resources import JOB

CHAIN = "benchmark/chain"  # label of a Job: which chain, which place in it


async def run_chains(kubeconfig: Path, namespace: str, chains: list[list[dict[str, Any]]]) -> None:
    """Returns when the last Job of every chain is Complete."""
    server, session = await open_session(kubeconfig, Unwatched())
    url, left, places = server + JOB.path(namespace), len(chains), [0] * len(chains)

    def post(chain: int) -> Callable[[], Awaitable[None]]:
        async def send() -> None:
            async with session.post(url, json=chains[chain][places[chain]]) as answer:
                assert answer.status == 201, await answer.text()

        return send

    posting = {asyncio.create_task(at_once(post(chain) for chain in range(len(chains))))}
    async with session, session.get(url, params={"watch": "true", "labelSelector": CHAIN}, timeout=None) as events:
        while left:
            job = json.loads(await events.content.readline())["object"]
            chain, place = (int(each) for each in job["metadata"]["labels"][CHAIN].split("."))
            ended = {each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"}
            if place == places[chain] and "Complete" in ended:
                places[chain] += 1
                if places[chain] < len(chains[chain]):
                    posting.add(asyncio.create_task(post(chain)()))
                else:
                    left -= 1
        await asyncio.gather(*posting)
