"""What a step program says to Prometheus (docs/metrics.md). Counters restart with the attempt.

No label names the run or the step: the pod's labels do, by the chart's PodMonitor. A series is there once it means
something: a generation has no loss.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cached_property

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

LogRow = dict[str, float]  # of one optimiser step (train/trainer.py)


class Metrics:
    """The series of a step program, in a registry of its own."""

    def __init__(self) -> None:
        # When a counter began: nobody asks, and it doubles the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.records = Counter(
            "selfalign_records",
            "Records finished, by flow, outcome (rows, dropped, set-aside) and its reason.",
            ["flow", "outcome", "reason"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "selfalign_tokens",
            "Tokens, by role (train: of what is trained on) and direction (in, out).",
            ["role", "direction"],
            registry=self.registry,
        )
        self.verdicts = Counter(
            "selfalign_verdicts",
            "Verdicts, by result (first, second, tie, inconsistent, unparsed).",
            ["result"],
            registry=self.registry,
        )
        self.verdict_positions = Counter(
            "selfalign_verdict_positions",
            "Deciding judgements, each order one, by the place of the answer that was preferred (first, second).",
            ["position"],
            registry=self.registry,
        )
        self.pair_tokens = Gauge(
            "selfalign_train_pair_tokens",
            "Mean tokens of an answer that is trained on, by side (chosen, rejected; target).",
            ["side"],
            registry=self.registry,
        )
        self.tokens_per_second = Gauge(
            "selfalign_tokens_per_second", "Tokens a second, lately.", registry=self.registry
        )
        self._kv_use = Gauge(
            "selfalign_engine_kv_cache_use",
            "Share of an engine's KV cache in use (0 to 1).",
            ["engine"],
            registry=self.registry,
        )
        self._preemptions = Counter(
            "selfalign_engine_preemptions",
            "Sequences that lost their place in the KV cache and are computed again.",
            ["engine"],
            registry=self.registry,
        )
        self._preempted: dict[str, int] = {}  # by engine, since its start
        self.done = Gauge(
            "selfalign_progress_done", "Units done of the phase.", ["phase", "unit"], registry=self.registry
        )
        self.total = Gauge("selfalign_progress_total", "Units of the phase.", ["phase", "unit"], registry=self.registry)
        self.moved = Gauge(
            "selfalign_progress_moved_timestamp_seconds",
            "When the last unit was finished, or the phase began.",
            registry=self.registry,
        )
        self.moved.set_to_current_time()

    def engine(self, name: str, kv_use: float, preemptions: int) -> None:
        """An engine says how full its KV cache is, and how many preemptions it has had since it started."""
        self._kv_use.labels(name).set(kv_use)
        before = self._preempted.get(name, 0)
        self._preemptions.labels(name).inc(preemptions - before if preemptions >= before else preemptions)
        self._preempted[name] = preemptions

    def engine_lost(self, name: str) -> None:
        """An engine is gone; one that comes in its place counts anew."""
        self._preempted.pop(name, None)
        with suppress(KeyError):
            self._kv_use.remove(name)

    @cached_property
    def training(self) -> TrainingMetrics:
        """The series of a training, from its first optimiser step on."""
        return TrainingMetrics(self.registry)


class TrainingMetrics:
    """The series of a training. A loss that is no number ends it: the operator tells (reason TrainingDiverged)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, words: str) -> Gauge:
            return Gauge(f"selfalign_train_{name}", words, registry=registry)

        self._loss = gauge("loss", "Loss of the last optimiser step.")
        self._margin = gauge("reward_margin", "Reward of chosen less that of rejected, mean of the last step.")
        self._accuracy = gauge("reward_accuracy", "Share of the last step's pairs that are ordered right.")
        self._gradient_norm = gauge("gradient_norm", "Norm of the last step's gradient.")
        self._learning_rate = gauge("learning_rate", "Learning rate of the last step.")
        self._computed = gauge(
            "computed_tokens_per_second",
            "Tokens computed a second in the last step: a shared prompt once, padding too.",
        )
        self._registry = registry

    @cached_property
    def mfu(self) -> Gauge:
        """Only where the card's peak is known."""
        words = (
            "Share of the card's peak that the last step made use of (0 to 1); not there where the peak is not known."
        )
        return Gauge("selfalign_train_mfu", words, registry=self._registry)

    def step(self, row: LogRow) -> None:
        """An optimiser step ended."""
        self._loss.set(row["loss"])
        if "margin" in row:
            self._margin.set(row["margin"])
            self._accuracy.set(row["accuracy"])
        self._learning_rate.set(row["learning_rate"])
        self._computed.set(row["computed_tokens_per_second"])
        if "mfu" in row:
            self.mfu.set(row["mfu"])
        if math.isfinite(row["gradient_norm"]):  # float16's scaler skips such a step, and that is how it works
            self._gradient_norm.set(row["gradient_norm"])
