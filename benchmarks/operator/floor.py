"""The floor beside restart.py: bare Kopf, `on.event` and one status patch a run. Ends when all runs have theirs.

python benchmarks/operator/floor.py KUBECONFIG RUNS
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import kopf

RUNS = int(sys.argv[1])
VALUE = f"floor-{time.time():.0f}"
done: set[str] = set()


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Nothing but the watch and the patches."""
    settings.posting.enabled = False
    settings.scanning.disabled = True


@kopf.on.event("selfalign.dev/v1alpha1", "selfalignmentruns")
async def patch_once(uid: str, status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    """One write a run: a field that the operator does not compute."""
    if status.get("observedRetry") != VALUE:
        patch.status["observedRetry"] = VALUE
    else:
        done.add(uid)


async def main() -> None:
    """Serve until all are patched, and then until somebody has read our memory."""
    serving = asyncio.create_task(kopf.operator(clusterwide=True, standalone=True))
    while len(done) < RUNS and not serving.done():
        await asyncio.sleep(0.05)
    if not serving.done():
        print(f"patched {len(done)}", flush=True)
    await serving


asyncio.run(main())
