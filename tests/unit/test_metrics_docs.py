"""docs/metrics.md is what the registries of the operator and of the step programs hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from one_job import OneJob
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from selfalign_jobs.step.metrics import Metrics
from selfalign_operator.process import OperatorProcess, Options

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
SUFFIX = {"counter": "_total"}


def operator_registry() -> CollectorRegistry:
    return OperatorProcess(Options(leader_election=False), OneJob()).metrics.registry


def pod_registry() -> CollectorRegistry:
    metrics = Metrics()
    assert metrics.training.mfu
    return metrics.registry


def rows(registry: CollectorRegistry) -> Iterator[str]:
    """A line of the table for each series, sorted."""
    found: list[tuple[str, str, tuple[str, ...], str]] = []
    for collector in registry._collector_to_names:
        families: list[Any] = [collector] if isinstance(collector, MetricWrapperBase) else list(collector.collect())
        for family in families:
            if isinstance(family, Metric):
                name, kind, words = family.name, family.type, family.documentation
            else:
                name, kind, words = family._name, family._type, family._documentation
            found.append((name + SUFFIX.get(kind, ""), kind, tuple(family._labelnames), words))
    for name, kind, labels, words in sorted(found):
        yield f"| `{name}` | {kind} | {', '.join(labels) or '–'} | {words} |"


@pytest.mark.parametrize(
    ("title", "registry"), [("Of the operator", operator_registry), ("Of a step's pod", pod_registry)]
)
def test_each_series_has_its_line(title: str, registry: Any) -> None:
    section = DOCS.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    wanted = list(rows(registry()))
    assert lines == wanted, "write:\n" + "\n".join(wanted)
