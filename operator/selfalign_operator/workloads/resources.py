"""CPU and memory of a pod where nobody says: requests, so that it is not the first to be evicted, and limits, for quotas.

A quota on `limits.cpu` or `limits.memory` refuses every pod without that limit. Those of engines and ranks are wide: what
they need follows from the model, and a limit that is too low ends a run that would have gone well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

__all__ = ["with_defaults"]


@dataclass(frozen=True)
class _Default:
    """By the name of the resource."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]


# They read and copy files, and write manifests: accept of the tiny model takes 125 MiB.
SMALL = _Default({"cpu": "500m", "memory": "768Mi"}, {"cpu": "1", "memory": "768Mi"})
ON_CPU = _Default({"cpu": "500m", "memory": "1Gi"}, {"cpu": "16", "memory": "32Gi"})


def with_defaults(resources: Any, gpus: int, *, small: bool) -> Any:
    """The resources of the container `step`, with CPU and memory where they say nothing of these.

    A request alone is its own limit where it is above the default; a limit alone is the request, as in Kubernetes. What is
    of another type is left to the apiserver, which says so.
    """
    if not isinstance(resources, dict):
        return resources
    requests, limits = (resources.get(name) or {} for name in ("requests", "limits"))
    if not (isinstance(requests, dict) and isinstance(limits, dict)):
        return resources
    requests, limits = dict(requests), dict(limits)
    default = SMALL if small else _of_gpus(gpus) if gpus else ON_CPU
    for name in ("cpu", "memory"):
        if name not in requests and name not in limits:
            requests[name] = default.requests[name]
        if name not in limits:
            limits[name] = _larger(requests[name], default.limits[name])
    return resources | {"requests": requests, "limits": limits}


def _of_gpus(gpus: int) -> _Default:
    return _Default(
        {"cpu": str(2 * gpus), "memory": f"{8 * gpus}Gi"}, {"cpu": str(16 * gpus), "memory": f"{64 * gpus}Gi"}
    )


def _larger(written: Any, default: str) -> Any:
    return written if _amount(written) > _amount(default) else default


def _amount(quantity: Any) -> Decimal:
    """Of a quantity; one that is none is left to the apiserver, which says so."""
    try:
        return Decimal(parse_quantity(quantity))
    except (ArithmeticError, TypeError, ValueError):
        return Decimal("inf")
