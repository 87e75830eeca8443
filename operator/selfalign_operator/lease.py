"""Which of the replicas may write: one Lease, held by one of them.

Time is measured on this machine's monotonic clock only (one that counts sleep): another replica's clock is never
compared with ours, a Lease is old when *we* have not seen it change for its duration. The holder stops writing
`renew_deadline` after the beginning of its last renewal; every write ends within `duration - renew_deadline` of its
beginning (client.WRITE_SECONDS): when another takes over, the last write is done. On SIGTERM the Lease is released.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from selfalign_operator.kube.client import ApiError, Kube, NotLeader
from selfalign_operator.kube.resources import LEASE
from selfalign_operator.read import text

__all__ = ["Elector", "KubeLease", "Leadership", "LeaseApi", "LeaseRecord", "LeaseTimes", "Unopposed", "monotonic"]

OTHERS = ("labels", "annotations", "ownerReferences", "finalizers")
log = logging.getLogger(__name__)


def monotonic() -> float:
    """Seconds that never jump and go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds."""

    duration: float = 12.0
    renew_deadline: float = 8.0
    renew_every: float = 2.0
    try_every: float = 1.0  # a standby


@dataclass(frozen=True)
class LeaseRecord:
    """What stands in the Lease. `version` and `renewals` only tell one state from another."""

    holder: str
    duration: float
    transitions: int
    version: str = ""


class LeaseApi(Protocol):
    """The Lease object. Every call raises ApiError; `replace` one with code 409 when the record is not the newest."""

    async def read(self) -> LeaseRecord | None:
        """The record; None when there is no Lease."""

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Make the Lease; the record as it is then."""

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Write the record over the one of its version; the record as it is then."""


class Leadership(Protocol):
    """Whether this process may write."""

    changed: asyncio.Event  # set when it may from now on, or no longer

    @property
    def leads(self) -> bool:
        """Whether it may write now."""

    @property
    def leader(self) -> str:
        """Who leads, in words for people."""

    def may_write(self) -> None:
        """Raise NotLeader unless it may write now."""

    async def run(self) -> None:
        """Try for it, and keep it, until cancelled."""

    async def release(self) -> None:
        """Let another take over at once. Nothing is written after this."""


class Unopposed:
    """The only replica, as --no-leader-election says."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._leads = False

    @property
    def leads(self) -> bool:
        """From the start until it is released."""
        return self._leads

    @property
    def leader(self) -> str:
        """Whether this process does."""
        return "yes" if self._leads else "no: it is stopping"

    def may_write(self) -> None:
        """Raise NotLeader once it is released."""
        if not self._leads:
            raise NotLeader("this process is stopping")

    async def run(self) -> None:
        """Lead until cancelled."""
        self._leads = True
        self.changed.set()
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Write nothing any more."""
        self._leads = False


class Elector:
    """Takes, renews and releases the Lease."""

    def __init__(
        self,
        api: LeaseApi,
        identity: str,
        times: LeaseTimes = LeaseTimes(),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._identity = identity
        self._times = times
        self._clock = clock
        self._held_since: float | None = None  # when the last successful taking or renewal began
        self._seen: LeaseRecord | None = None
        self._seen_at = 0.0
        self._trouble = ""  # why the Lease could not be read or written, last
        self.changed = asyncio.Event()  # set when the Lease is won or lost

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return self._held_since is not None and self._clock() - self._held_since < self._times.renew_deadline

    @property
    def leader(self) -> str:
        """Whether this process, another, or nobody does: then somebody must look why the Lease cannot be had."""
        if self.leads:
            return "yes"
        if self._seen is not None and self._seen.holder and self._clock() - self._seen_at < self._seen.duration:
            return f"no: {self._seen.holder} leads"
        return f"no, and nobody else: {self._trouble or 'the Lease is being taken'}"

    def may_write(self) -> None:
        """Raise NotLeader unless this process may write now."""
        if not self.leads:
            raise NotLeader(f"{self._identity} does not hold the lease")

    async def run(self) -> None:
        """Try for the Lease, and keep it, until cancelled."""
        led = False
        while True:
            wait = await self.step()
            if self.leads != led:
                led = self.leads
                log.info("the lease is %s", "won" if led else "lost")
                self.changed.set()
            await asyncio.sleep(wait)

    async def step(self) -> float:
        """One try to take or to renew; the seconds until the next."""
        began = self._clock()
        try:
            if self.leads and self._seen is not None:
                await self._write(began, self._seen)
            else:
                await self._try(began)
            self._trouble = ""
        except ApiError as error:
            self._trouble = str(error)
            if error.code != 409:
                log.warning("the lease cannot be written or read: %s", error)
            self._seen = None if self.leads else self._seen  # read it again before the next try
        return self._times.renew_every if self.leads and self._seen is not None else self._times.try_every

    async def _try(self, began: float) -> None:
        record = await self._api.read()
        if record is None:
            self._held(began, await self._api.create(LeaseRecord(self._identity, self._times.duration, 0)))
            return
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        if record.holder == self._identity:
            await self._write(began, record)
        elif not record.holder or self._clock() - self._seen_at >= record.duration:
            await self._write(began, replace(record, transitions=record.transitions + 1))
        else:
            self._held_since = None

    async def _write(self, began: float, record: LeaseRecord) -> None:
        mine = replace(record, holder=self._identity, duration=self._times.duration)
        self._held(began, await self._api.replace(mine))

    def _held(self, began: float, record: LeaseRecord) -> None:
        self._held_since = began
        self._seen, self._seen_at = record, began

    async def release(self) -> None:
        """Let another take over at once. Nothing is written after this."""
        held, self._held_since = self.leads, None
        if not held or self._seen is None:
            return
        try:
            await self._api.replace(replace(self._seen, holder="", duration=1.0))
            log.info("the lease is released")
        except ApiError as error:
            log.warning("the lease cannot be released, a standby takes over when it runs out: %s", error)


class KubeLease:
    """A Lease of the apiserver."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._others: dict[str, Any] = {}  # what others wrote into its metadata: a write without it would remove it

    async def read(self) -> LeaseRecord | None:
        """The record; None when there is no Lease."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        return None if lease is None else self._record(lease)

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Make the Lease."""
        return self._record(await self._kube.create(LEASE, self._namespace, self._manifest(record)))

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Write the record while the Lease has its version."""
        return self._record(await self._kube.replace(LEASE, self._namespace, self._manifest(record)))

    def _record(self, lease: dict[str, Any]) -> LeaseRecord:
        metadata, spec = lease.get("metadata", {}), lease.get("spec", {})
        self._others = {field: metadata[field] for field in OTHERS if field in metadata}
        return LeaseRecord(
            holder=text(spec, "holderIdentity"),
            duration=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            version=text(metadata, "resourceVersion"),
        )

    def _manifest(self, record: LeaseRecord) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": self._namespace, **self._others}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # for people; nobody compares it
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata | ({"resourceVersion": record.version} if record.version else {}),
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": round(record.duration),
                "leaseTransitions": record.transitions,
                "renewTime": now,
            },
        }
