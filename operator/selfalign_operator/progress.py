"""How far the running attempts are: index 0 of each is asked, beside everything else; no reconciliation waits for it.

What a pod answers is anything: it is bounded in time and size and read strictly. While it does not answer, the last value
stands, with its age.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp

from selfalign_operator.cache import Key
from selfalign_operator.kube.client import ApiError, Kube
from selfalign_operator.kube.resources import POD, SERVICE
from selfalign_operator.read import pod_view
from selfalign_operator.views import PodView, ProgressView

__all__ = ["ProgressPoller", "parse_progress"]

EVERY_SECONDS = 15.0
FIRST_SECONDS = 3.0
TIMEOUT_SECONDS = 2.0
LIMIT_BYTES = 64 << 10
AT_ONCE = 32
MAX_TEXT = 64
JOB_NAME = "batch.kubernetes.io/job-name"
# The two names that index 0 may have (rendering.py): of a pod of a Job, of the Service of a Ray head.
MISSES = 3  # in a row, until it is said
MOST_SECONDS = 300.0  # between two tries at a pod that does not answer
POD_URL = re.compile(r"http://(?P<job>[a-z0-9-]+)-0\.[a-z0-9-]+\.[a-z0-9-]+\.svc:(?P<port>\d+)/progress")
SERVICE_URL = re.compile(r"http://(?P<service>[a-z0-9-]+)\.[a-z0-9-]+\.svc:(?P<port>\d+)/progress")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Polled:
    url: str
    task: asyncio.Task[None]


class ProgressPoller:
    """One task a running attempt. It asks index 0 itself, by the address of its pod: only gangs have a Service.

    With `through_apiserver` by pods/proxy, for outside of a cluster.
    """

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        kube: Kube,
        *,
        through_apiserver: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._enqueue = enqueue
        self._kube = kube
        self._through_apiserver = through_apiserver
        self._now = now
        self._every = every_seconds
        self._first = min(FIRST_SECONDS, every_seconds)
        self._polled: dict[Key, _Polled] = {}
        self._views: dict[Key, ProgressView] = {}
        self._misses: dict[Key, int] = {}  # in a row
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Semaphore(AT_ONCE)

    def view(self, key: Key) -> ProgressView | None:
        """The last reading of the run's running attempt."""
        return self._views.get(key)

    def unread(self, key: Key) -> bool:
        """Whether the run's running attempt has not answered for several tries."""
        return self._misses.get(key, 0) >= MISSES

    def unreadable(self) -> int:
        """Of how many runs that is so."""
        return sum(self.unread(key) for key in self._misses)

    def watch(self, key: Key, url: str | None) -> None:
        """Ask there from now on; None: there is nothing to ask."""
        polled = self._polled.get(key)
        if polled is not None and polled.url == url:
            return
        if polled is not None:
            polled.task.cancel()
            del self._polled[key]
            self._views.pop(key, None)
            self._misses.pop(key, None)
        if url is not None:
            task = asyncio.get_running_loop().create_task(self._poll(key, url), name=f"progress of {key[0]}/{key[1]}")
            self._polled[key] = _Polled(url, task)

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = [polled.task for polled in self._polled.values()]
        for key in list(self._polled):
            self.watch(key, None)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _poll(self, key: Key, url: str) -> None:
        wait, address = self._first, ""
        while True:
            await asyncio.sleep(wait * random.uniform(0.9, 1.1))
            wait = self._every
            try:
                async with self._turn:
                    if self._through_apiserver:
                        content = await self._proxied(key, url)
                    else:
                        address = address or await self._address(key, url)
                        content = await self._direct(address)
                found = parse_progress(content, self._now())
            except (aiohttp.ClientError, ApiError, TimeoutError, OSError, ValueError) as error:
                log.debug("run %s/%s: %s does not say how far it is: %s", *key, url, error)
                address = ""  # index 0 of a gang may have been replaced
                wait = self._miss(key)
                continue
            self._misses.pop(key, None)
            self._note(key, found)

    def _miss(self, key: Key) -> float:
        """Seconds until the next try: each asks the apiserver for a pod's address, and a network may never let it through."""
        misses = self._misses[key] = self._misses.get(key, 0) + 1
        if misses == MISSES:
            self._enqueue(key)  # for its message
        return min(self._every * float(2 ** min(misses - 1, 10)), MOST_SECONDS)

    def _note(self, key: Key, found: ProgressView) -> None:
        before = self._views.get(key)
        stands = before is not None and (before.done, before.phase) == (found.done, found.phase)
        if before is not None and stands:
            found = replace(found, changed_at=before.changed_at)
        self._views[key] = found
        if not stands:
            self._enqueue(key)

    async def _address(self, key: Key, url: str) -> str:
        """The URL with the address of the pod in the place of its name."""
        found = POD_URL.fullmatch(url)
        if found is None:
            return url
        ip = (await self._index_0(key[0], found["job"])).ip
        if ip is None:
            raise ValueError("its index 0 has no address yet")
        return f"http://{f'[{ip}]' if ':' in ip else ip}:{found['port']}/progress"

    async def _direct(self, url: str) -> bytes:
        if self._session is None:  # of its own: a pod must not see the apiserver's token
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), connector=aiohttp.TCPConnector(force_close=True)
            )
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"it answers {response.status}")
            content = await response.content.read(LIMIT_BYTES + 1)
            while len(content) <= LIMIT_BYTES and (more := await response.content.read(LIMIT_BYTES + 1)):
                content += more
        if len(content) > LIMIT_BYTES:
            raise ValueError(f"more than {LIMIT_BYTES} bytes")
        return content

    async def _proxied(self, key: Key, url: str) -> bytes:
        if (found := SERVICE_URL.fullmatch(url)) is not None:
            path = SERVICE.path(key[0], f"http:{found['service']}:{found['port']}", "proxy/progress")
        elif (found := POD_URL.fullmatch(url)) is not None:
            pod = await self._index_0(key[0], found["job"])
            path = POD.path(key[0], f"http:{pod.name}:{found['port']}", "proxy/progress")
        else:
            raise ValueError("it is neither a pod's address nor a Service's")
        return await self._kube.fetch(path, seconds=TIMEOUT_SECONDS, limit=LIMIT_BYTES)

    async def _index_0(self, namespace: str, job: str) -> PodView:
        pods = (pod_view(pod) for pod in await self._kube.list(POD, namespace, labels=f"{JOB_NAME}={job}"))
        heads = [pod for pod in pods if pod is not None and pod.index == 0 and pod.phase == "Running"]
        if not heads:
            raise ValueError("its index 0 does not run")
        return heads[-1]


def parse_progress(content: bytes, now: datetime) -> ProgressView:
    """What a step program answers at /progress. Raises ValueError for anything else."""
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("no JSON object")
    per_second = body.get("perSecond")
    if per_second is not None and not _is_number(per_second):
        raise ValueError("perSecond is no number")
    return ProgressView(
        done=_count(body, "done"),
        total=_count(body, "total"),
        unit=_word(body, "unit"),
        phase=_word(body, "phase"),
        per_second=None if per_second is None else float(per_second),
        read_at=now,
        changed_at=now,
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def _count(body: dict[str, Any], field: str) -> int:
    value = body.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{field} is no count")
    return value


def _word(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"{field} is no word")
    return value
