"""Watched namespaces that may not be read, told by Events of the Lease: in the operator's own namespace, for its platform."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from selfalign_operator.events import event
from selfalign_operator.kube.client import ApiError, Kube, NotLeader
from selfalign_operator.kube.resources import LEASE, RUN_EVENT
from selfalign_operator.read import text

__all__ = ["UnreadNamespaces"]

LOOK_SECONDS = 5.0
log = logging.getLogger(__name__)


@dataclass
class UnreadNamespaces:
    """Each is told of once when it begins and once when it ends, by who leads."""

    kube: Kube
    namespace: str  # of the Lease
    lease: str
    instance: str
    unread: Callable[[], tuple[str, ...]]
    leads: Callable[[], bool]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _told: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Tell what is new. Whoever leads next tells anew what is so then."""
        if not self.leads():
            self._told = set()
            return
        unread = set(self.unread())
        for name in sorted(unread - self._told):
            said = f"namespace {name} cannot be read: its runs wait for a RoleBinding; the other namespaces are served"
            await self._tell("Warning", "NamespaceUnreadable", said)
        for name in sorted(self._told - unread):
            await self._tell("Normal", "NamespaceReadable", f"namespace {name} can be read again")
        self._told = unread

    async def _tell(self, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        metadata = {"namespace": self.namespace, "name": self.lease}
        name = f"{self.lease}.{uuid.uuid4().hex[:16]}"
        try:
            found = await self.kube.get(LEASE, self.namespace, self.lease)
            if found is not None:  # `kubectl describe` asks for the Events of its uid
                metadata["uid"] = text(found["metadata"], "uid")
            told = event(
                name, LEASE, metadata, type_=type_, reason=reason, note=note, instance=self.instance, now=self.now()
            )
            await self.kube.create(RUN_EVENT, self.namespace, told)
        except (ApiError, NotLeader) as error:  # an Event is for people: /readyz and a metric say the same
            log.warning("an Event cannot be written: %s: %s", note, error)
