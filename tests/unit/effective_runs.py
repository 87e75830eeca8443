"""Runs for the tests of manifests: a small valid one, changed where a test says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from selfalign_api.merge import merge
from selfalign_api.operator_config import Images, OperatorConfig
from selfalign_api.status import Status
from selfalign_operator.effective import Attempt, EffectiveRun, Frozen
from selfalign_operator.resolve import effective_run
from selfalign_operator.views import RunView

CONFIG = OperatorConfig(images=Images(generate="generate:1", train="train:1"))
UID = "6f1c3f6a-0000-4000-8000-000000000001"
SPEC: dict[str, Any] = {
    "recipe": "sao",
    "model": {"url": "pvc://models/m"},
    "data": {"personas": {"count": 10}},
    "storage": {"url": "pvc://data/runs"},
}


def run_view(spec: dict[str, Any] | None = None, **fields: Any) -> RunView:
    """The small run with `spec` merged over it; `fields` are further fields of the view."""
    given: dict[str, Any] = {
        "namespace": "research",
        "name": "small",
        "uid": UID,
        "generation": 1,
        "resource_version": "1",
        "created": datetime(2026, 11, 24, tzinfo=UTC),
        "deleting": False,
        "labels": {},
        "annotations": {},
        "spec": merge(SPEC, spec or {}),
        "status": Status(),
    }
    return RunView(**given | fields)


def effective(
    spec: dict[str, Any] | None = None,
    config: OperatorConfig = CONFIG,
    frozen: Frozen | None = None,
    **fields: Any,
) -> EffectiveRun:
    """The small run as it counts."""
    return effective_run(run_view(spec, **fields), config, frozen)


ACCEPT = Attempt("accept", "accept", 0, 1)
GENERATE = Attempt("i1-generate", "generate", 1, 1)
TRAIN = Attempt("i1-train", "train", 1, 1)
EVALUATE = Attempt("i1-evaluate", "evaluate", 1, 1)
COLLECT = Attempt("i1-train", "train", 1, 2, collect=True)
ATTEMPTS = (ACCEPT, GENERATE, TRAIN, EVALUATE, COLLECT)
