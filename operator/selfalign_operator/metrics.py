"""What the operator says to Prometheus (docs/metrics.md): of itself, of the fleet, and of each run under way.

Only the `run_…` series name a run: as many as are active or have ended within the last hour. A run's namespace is
`run_namespace`: `namespace` is that of the scraped pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from selfalign_api import __version__
from selfalign_api.status import Status, StepKind, StepStatus
from selfalign_operator.cache import Cache
from selfalign_operator.read import moment
from selfalign_operator.run_metrics import RunCollector

__all__ = ["Metrics"]

KINDS = get_args(StepKind)
SETTLED = ("Succeeded", "Reused", "Failed")
LOST_REASONS = (
    "StepFailed", "Stopped", "OutOfMemory", "Stalled", "ResultMissing", "InvalidConfig", "TrainingDiverged", "GateNotPassed",
    "Disrupted", "NodeLost", "GangNotPlaced", "NotStarted", "Suspended", "Deleted", "Superseded",
)  # fmt: skip
STEP_SECONDS = (1, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800)
RECONCILE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The operator's series, in a registry of its own."""

    def __init__(self) -> None:
        # When a counter began: nobody asks, and it doubles the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.api_calls = Counter(
            "selfalign_operator_api_calls",
            "Calls of the apiserver, by verb and HTTP status (or the name of the error).",
            ["verb", "code"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "selfalign_operator_reconcile_duration_seconds",
            "Time of one reconciliation of a run.",
            buckets=RECONCILE_SECONDS,
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "selfalign_operator_reconcile_errors",
            "Reconciliations that failed and are tried again, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.steps = Counter(
            "selfalign_operator_steps",
            "Steps that ended, by kind and result (Succeeded, Reused, Failed).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "selfalign_operator_step_duration_seconds",
            "Time from the first attempt of a step to its success, by kind.",
            ["kind"],
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self.lost_attempts = Counter(
            "selfalign_operator_lost_attempts",
            "Attempts that did not succeed, by kind of step and reason.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._begin_at_zero()
        Gauge("selfalign_operator_info", "Version of this operator.", ["version"], registry=self.registry).labels(
            __version__
        ).set(1)

    def gauge(self, name: str, words: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for at each scrape."""
        Gauge(f"selfalign_operator_{name}", words, registry=self.registry).set_function(value)

    def family(
        self, name: str, words: str, labels: list[str], values: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    ) -> None:
        """A gauge with labels whose values are asked for at each scrape."""
        self.registry.register(_Family(f"selfalign_operator_{name}", words, labels, values))

    def runs(self, cache: Cache) -> None:
        """What the cache knows of runs and their GPUs, counted at each scrape."""
        self.registry.register(RunCollector(cache))

    def _begin_at_zero(self) -> None:
        """A counter that begins with its first event hides that event from `increase`."""
        for kind in KINDS:
            self.step_seconds.labels(kind)
        for kind, result in product(KINDS, SETTLED):
            self.steps.labels(kind, result)
        for kind, reason in product(KINDS, LOST_REASONS):
            self.lost_attempts.labels(kind, reason)
        self.reconcile_errors.labels("Conflict")

    def count_changes(self, before: Status, after: Status) -> None:
        """Steps that ended and attempts that were lost between two statuses of a run, the second of them written."""
        known = {step.name: step for step in before.steps}
        for step in after.steps:
            old = known.get(step.name)
            if step.state in SETTLED and (old is None or old.state != step.state):
                self.steps.labels(step.kind, step.state).inc()
                self._count_seconds(step)
            seen = {lost.number for lost in old.lost_attempts} if old is not None else set()
            for lost in step.lost_attempts:
                if lost.number not in seen:
                    self.lost_attempts.labels(step.kind, lost.reason).inc()

    def _count_seconds(self, step: StepStatus) -> None:
        began, ended = moment(step.start_time), moment(step.completion_time)
        if step.state == "Succeeded" and isinstance(began, datetime) and isinstance(ended, datetime):
            self.step_seconds.labels(step.kind).observe(max(0.0, (ended - began).total_seconds()))


class _Family(Collector):
    def __init__(
        self,
        name: str,
        words: str,
        labels: list[str],
        values: Callable[[], Iterable[tuple[tuple[str, ...], float]]],
    ) -> None:
        self._name, self._words, self._labels, self._values = name, words, labels, values

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._words, labels=self._labels)
        for labels, value in self._values():
            family.add_metric(labels, value)
        yield family
