"""Runs by state, each run that is active or has just ended, and the GPUs that their pods hold, counted at each scrape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from selfalign_api.status import State
from selfalign_operator.cache import Cache
from selfalign_operator.run_summary import Summary

__all__ = ["RunCollector"]

STATES = get_args(State)
ENDED = ("Complete", "Failed")
SHOWN_SECONDS = 3600.0  # how long a run that has ended keeps its series: an alert must be seen, and a scrape may fail


class RunCollector(Collector):
    """What the cache knows, as series."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def describe(self) -> Iterable[Metric]:
        """The families without samples."""
        return _Families().all

    def collect(self) -> Iterator[Metric]:
        """The families as things are now."""
        families, now = _Families(), time.time()
        seconds, of_runs = self._cache.gpus.seconds(), self._cache.gpus.of_runs()
        states, gpus = Counter[tuple[str, str, str]](), Counter[str](dict.fromkeys(seconds, 0))
        for (namespace, name), uid, run in self._cache.summaries():
            states[namespace, run.recipe, run.state] += 1
            gpus[namespace] += of_runs.get(uid, 0)
            if _is_shown(run, now):
                families.show(namespace, name, run, of_runs.get(uid, 0))
        for namespace, recipe in sorted({(namespace, recipe) for namespace, recipe, _ in states}):
            for state in STATES:  # those of no run too: a graph begins at 0
                families.runs.add_metric([namespace, recipe, state], states[namespace, recipe, state])
        for namespace, number in gpus.items():
            families.gpus.add_metric([namespace], number)
        for namespace, number in self._cache.gpus_requested().items():
            families.gpus_requested.add_metric([namespace], number)
        for namespace, total in seconds.items():
            families.gpu_seconds.add_metric([namespace], total)
        yield from families.all


class _Families:
    def __init__(self) -> None:
        self.runs = _gauge("runs", "Runs, by namespace, recipe and state.", "recipe", "state")
        self.state = _gauge(
            "run_state",
            "1: the state of a run that is active, or has ended within the last hour; its stage, and why.",
            "run",
            "recipe",
            "state",
            "stage",
            "reason",
        )
        words = "Checks of the run's newest evaluation, by bound (value; low and high of its 95 % interval)."
        self.result = _gauge("run_result", words, "run", "check", "bound")
        self.run_gpus = _gauge("run_gpus", "GPUs that the run's pods hold, from when they have a node.", "run")
        self.gpus = _gauge("gpus", "GPUs that pods of runs hold, from when they have a node.")
        self.gpus_requested = _gauge("gpus_requested", "GPUs that pods of runs ask for, with a node or without.")
        self.gpu_seconds = CounterMetricFamily(
            "selfalign_operator_gpu_seconds",
            "GPU-seconds that pods of runs held, as this replica saw it.",
            labels=["run_namespace"],
        )

    @property
    def all(self) -> tuple[Metric, ...]:
        """In the order in which they are shown."""
        return self.runs, self.state, self.result, self.run_gpus, self.gpus, self.gpus_requested, self.gpu_seconds

    def show(self, namespace: str, name: str, run: Summary, gpus: int) -> None:
        """The series of one run."""
        self.state.add_metric([namespace, name, run.recipe, run.state, run.stage, run.reason], 1)
        self.run_gpus.add_metric([namespace, name], gpus)
        for check, bound, value in run.results:
            self.result.add_metric([namespace, name, check, bound], value)


def _gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"selfalign_operator_{name}", words, labels=["run_namespace", *labels])


def _is_shown(run: Summary, now: float) -> bool:
    return run.state not in ENDED or (run.ended is not None and now - run.ended < SHOWN_SECONDS)
