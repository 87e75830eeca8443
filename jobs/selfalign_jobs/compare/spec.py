"""What differs between the effective specs of runs, field by field, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign_api.digest import leaves
from selfalign_jobs.compare.runs import ComparedRun
from selfalign_jobs.report.lineage import effective_spec

UNSET = object()
SHORT = 15  # of a digest: sha256: and eight digits


@dataclass(frozen=True)
class Differing:
    """A field whose values differ, with a value a run; `UNSET` where a run has none."""

    field: str
    values: tuple[Any, ...]


def differing(methods: Sequence[Mapping[str, Any]]) -> tuple[Differing, ...]:
    """The fields at which methods differ, in their order; 1 equals 1.0, and an empty list equals none."""
    flat = [dict(leaves(method)) for method in methods]
    fields = dict.fromkeys(path for each in flat for path in each)
    rows = (Differing(path, tuple(each.get(path, UNSET) for each in flat)) for path in fields)
    return tuple(row for row in rows if not all(_same(value, row.values[0]) for value in row.values))


def differing_specs(runs: Sequence[ComparedRun]) -> tuple[Differing, ...]:
    """What differs between runs; contents that differ are shown by their URLs too."""
    written = [dict(leaves(effective_spec(run.plan, run.owner))) for run in runs]
    return tuple(
        Differing(
            row.field,
            tuple(_with_url(value, urls.get(row.field)) for value, urls in zip(row.values, written, strict=True)),
        )
        for row in differing([run.owner.method for run in runs])
    )


def _with_url(value: Any, written: Any) -> Any:
    if value is UNSET or written is None or written == value:
        return value
    return f"{written} ({str(value)[:SHORT]})"


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
