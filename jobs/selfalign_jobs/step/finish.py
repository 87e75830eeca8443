"""Finishing a step: its manifest, written last."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from selfalign_api.plan import AnyStep
from selfalign_api.plan_values import Json
from selfalign_jobs.places.store import Manifest, TableEntry, write_manifest
from selfalign_jobs.step import second_look
from selfalign_jobs.step.context import StepContext


def finish_manifest(
    context: StepContext,
    step: AnyStep,
    started: datetime,
    *,
    active_seconds: float,
    result: dict[str, Json],
    notes: Sequence[str] = (),
    tables: Mapping[str, TableEntry] | None = None,
    model: str | None = None,
    versions: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
    tokens: Mapping[str, int] | None = None,
) -> Manifest:
    """Commit the manifest of a step whose outputs are durable: from here on it is done (the fields: store.Manifest).

    What deserves a second look (`notes`) is told in the step's log, and first in its result, where it is cut last.
    """
    plan = context.config.plan
    if told := second_look.kept_short(notes):
        result = {"notes": told} | result
        tell(told)
    manifest = Manifest(
        step=step.name,
        kind=step.kind,
        digest=plan.step_digest(step.name),
        recipe=plan.recipe,
        version=plan.version,
        attempt=context.config.attempt,
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        active_seconds=active_seconds,
        tables=dict(tables or {}),
        model=model,
        versions=dict(versions or {}),
        seed=plan.seed,
        models=dict(models or {}),
        tokens=dict(tokens or {}),
        result=result,
    )
    write_manifest(context.folder, manifest)
    return manifest


def tell(notes: Sequence[str]) -> None:
    """Say in the step's log what deserves a second look."""
    for note in notes:
        print(f"worth a second look: {note}", file=sys.stderr, flush=True)
