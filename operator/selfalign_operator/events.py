"""Events, as `kubectl describe` shows them beside the object that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from selfalign_operator.kube.client import FIELD_MANAGER
from selfalign_operator.kube.resources import RUN_EVENT, Resource

__all__ = ["event"]

NOTE_BYTES = 1024
INSTANCE_CHARACTERS = 128


def event(
    name: str,
    about: Resource,
    metadata: Mapping[str, str],
    *,
    type_: Literal["Normal", "Warning"],
    reason: str,
    note: str,
    instance: str,
    now: datetime,
) -> dict[str, Any]:
    """An Event of that name about an object with this metadata, in its namespace. `instance` says who tells it."""
    return {
        "apiVersion": RUN_EVENT.api_version,
        "kind": RUN_EVENT.kind,
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": FIELD_MANAGER,
        "reportingInstance": instance[:INSTANCE_CHARACTERS],
        "action": "Reconcile",
        "reason": reason,
        "type": type_,
        "regarding": {"apiVersion": about.api_version, "kind": about.kind, **metadata},
        "note": _cut(note, NOTE_BYTES),
    }


def _cut(words: str, limit: int) -> str:
    encoded = words.encode()
    return words if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"
